"""What may become of commands that wait for a flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.wire.riders import Riders


class Server:
    """Savepoints as the server keeps them: a name may be there twice, and the later one hides the earlier.

    What is done inside of one is undone with it.
    """

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.done: list[tuple[str, int]] = []  # work, and how deep it is

    def take(self, command: str) -> None:
        verb, _, name = command.rpartition(" ")
        if verb == "work":
            self.done.append((name, len(self.stack)))
        elif verb == "SAVEPOINT":
            self.stack.append(name)
        else:
            level = max(n for n, own in enumerate(self.stack) if own == name)
            released = verb == "RELEASE SAVEPOINT"
            del self.stack[level if released else level + 1 :]
            kept = self.done if released else [(work, depth) for work, depth in self.done if depth <= level]
            self.done = [(work, min(depth, level if released else depth)) for work, depth in kept]

    def seen(self) -> tuple[list[str], list[tuple[str, int]]]:
        return self.stack, self.done


SAVEPOINT_COMMANDS = [
    f"{verb} {name}" for verb in ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT") for name in "ab"
]
# A statement that waits for its answer, and one that rides with the next.
COMMANDS = st.lists(st.sampled_from([*SAVEPOINT_COMMANDS, "statement", "rider"]), max_size=30)


def board(riders: Riders, everything: Server, command: str) -> None:
    """Let ``command`` wait, and do at once to ``everything`` what it says."""
    if command.startswith("work"):
        everything.take(command)
        riders.add(command.encode(), [])
    elif riders.postpone(command, failed=False):
        everything.take(command)
    else:
        assert command.rpartition(" ")[2] not in everything.stack


def fly(riders: Riders, server: Server) -> None:
    due = [text.decode() for text, _ in riders.due]
    riders.sent()
    for command in due:
        server.take(command)


@given(COMMANDS)
def test_what_waits_and_what_is_left_out_changes_nothing(commands: list[str]) -> None:
    """The server ends with the same savepoints and the same work as one that was sent all commands at once."""
    everything, server, riders = Server(), Server(), Riders()
    for number, command in enumerate(commands):
        if command == "statement":
            fly(riders, server)
            for each in (everything, server):
                each.take(f"work {number}")
        else:
            board(riders, everything, f"work {number}" if command == "rider" else command)
    fly(riders, server)
    assert server.seen() == everything.seen()


@given(COMMANDS)
def test_a_first_flight_that_came_to_nothing_is_due_again(commands: list[str]) -> None:
    """On a connection that takes over, which then has what the first one would have had."""
    everything, riders = Server(), Riders()
    for number, command in enumerate(commands):
        board(riders, everything, f"work {number}" if command in {"statement", "rider"} else command)
    fly(riders, Server())
    riders.renew()
    replacement = Server()
    fly(riders, replacement)
    assert replacement.seen() == everything.seen()


def test_an_empty_savepoint_is_never_sent() -> None:
    """What never began needs no end."""
    riders = Riders()
    for command in ("SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO SAVEPOINT b", "RELEASE SAVEPOINT a"):
        assert riders.postpone(command, failed=False)
    assert riders.due == []


def test_in_a_failed_transaction_only_a_way_back_can_wait() -> None:
    """The server refuses the rest, and its refusal belongs to the command that it refuses."""
    riders = Riders()
    riders.postpone("SAVEPOINT a", failed=False)
    riders.sent()
    assert not riders.postpone("SAVEPOINT b", failed=True)
    assert not riders.postpone("RELEASE SAVEPOINT a", failed=True)
    assert not riders.mends
    assert riders.postpone("ROLLBACK TO SAVEPOINT a", failed=True)
    assert riders.mends


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT 1", "savepoint a", 'SAVEPOINT "a b"', "ROLLBACK TO a", "RELEASE SAVEPOINT a"),
        *("SAVEPOINT a;COMMIT", "SAVEPOINT a--b", "SAVEPOINT a/*"),
    ],
)
def test_what_it_does_not_know_is_sent(text: str) -> None:
    """Another spelling, a name with a blank or with something behind it, a savepoint of nobody's."""
    assert not Riders().postpone(text, failed=False)


def test_the_end_of_the_transaction_ends_them() -> None:
    """Nothing is due after it, and no name is known."""
    riders = Riders()
    riders.postpone("SAVEPOINT a", failed=False)
    riders.clear()
    assert riders.due == []
    assert not riders.postpone("RELEASE SAVEPOINT a", failed=False)


def test_the_end_of_a_cursor_outlives_the_savepoint_in_which_it_came() -> None:
    """Which the server does not undo either; the end of the transaction is the cursor's own."""
    riders = Riders()
    riders.postpone("SAVEPOINT a", failed=False)
    riders.close(b"c_1")
    riders.postpone("ROLLBACK TO SAVEPOINT a", failed=False)
    assert riders.closing == [b"c_1"]
    riders.sent()
    assert riders.closing == []
    riders.close(b"c_2")
    riders.clear()
    assert riders.closing == []
