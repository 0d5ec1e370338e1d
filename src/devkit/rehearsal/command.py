"""The steps of a rehearsal, each with what it has to end in."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from devkit.app.sam_cli import build
from devkit.app.sam_local import leave

from . import releases
from .account import Account
from .checks import Seen, differences, seen, unresolved
from .clone import Clone
from .journey import Journey
from .limits import UNSEEN
from .order import in_order
from .sam import STACK, Sam

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from devkit.app.catalogue import Case
    from devkit.app.project import Project

    from .functions import UploadedFunction
    from .releases import Release
    from .sam import Done

NO_CHANGES = "No changes to deploy"
BEFORE_ALL = -1  # what comes after it has a number that none of the others has
THROTTLED = (
    "Resource handler returned message: Rate exceeded (Service: Lambda, Status Code: 429), made up by the rehearsal"
)


@dataclass(frozen=True)
class Outcome:
    """What one step came to."""

    name: str
    found: Seen
    problems: tuple[str, ...]
    seconds: float


def run(project: Project) -> int:
    """Build, rehearse, print a table. Returns 1 where a step did not end as it has to."""
    signal.signal(signal.SIGTERM, leave)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-")))
        account = stack.enter_context(Account(project))
        # Whoever has no stack of a database that the verbs would deploy builds, and begins with the application.
        clone = Clone(account, folder) if Clone.can_be_made_of(project.root) else None
        if clone is None:
            build(project)
        print(f"\n{_line('step', 'stack', 'schema', 's')}", flush=True)
        outcomes = [_show(outcome) for outcome in carried_out(Journey(account, clone, folder))] if clone else []
        rehearsal = None
        if not any(outcome.problems for outcome in outcomes):
            first = releases.first(clone.project if clone else project, folder / "release-1")
            rehearsal = Rehearsal(account, folder, first, failed_before=clone is not None)
            outcomes += [_show(outcome) for outcome in carried_out(rehearsal)]
        recorded = sorted(account.cloudformation.makers.recorder.kinds)
    failed = [outcome for outcome in outcomes if outcome.problems]
    ended = f"{len(outcomes) - len(failed)} of {len(outcomes)} steps ended as they have to"
    print(f"\n{ended}, in {time.monotonic() - started:.0f} s")
    if rehearsal is not None and rehearsal.first.migrations is None:
        print(
            "No migration was rehearsed: no custom resource has a property that names the newest of the revisions in a"
            " folder 'versions' of its function."
        )
    print("\nWhat a rehearsal cannot see:")
    for what, how in UNSEEN.items():
        print(f"  {what}: {how}")
    if recorded:
        print(f"  recorded, and no more: {', '.join(recorded)}")
    return 1 if failed else 0


class Steps(Protocol):
    """What is carried out: steps with what they have to end in, what is there now, and what was printed meanwhile."""

    log: str

    def steps(self) -> Iterator[tuple[str, Callable[[], Iterator[str]]]]: ...

    def now(self) -> Seen: ...


def carried_out(rehearsed: Steps) -> Iterator[Outcome]:
    """Of each step, as it ends; the first that fails is the last, for the others would find something else."""
    for name, step in rehearsed.steps():
        started = time.monotonic()
        rehearsed.log = ""
        problems = tuple(step())
        found = rehearsed.now()
        if problems:
            problems += (rehearsed.log[-6000:],)
        yield Outcome(name, found, problems, time.monotonic() - started)
        if problems:
            return


class Rehearsal:
    """The steps in order. Each finds what the one before has left.

    ``failed_before`` says that a first deploy that fails was rehearsed already.
    """

    def __init__(self, account: Account, folder: Path, first: Release, *, failed_before: bool) -> None:
        self._account = account
        self._project = account.project
        self._sam = Sam(account, folder)
        self._now = Seen(None)
        self._failed_before = failed_before
        self.log = ""
        self.first = first

    def now(self) -> Seen:
        """What is there now, which the next step compares with."""
        self._now = self._seen()
        return self._now

    def _seen(self) -> Seen:
        return seen(self._account, STACK, self._account.stack.postgres, self._project.database)

    def steps(self) -> Iterator[tuple[str, Callable[[], Iterator[str]]]]:
        """Made one after the other: what a release is made of depends on the one before."""
        first = self.first
        if first.migrations is not None and not self._failed_before:
            failing = replace(first, number=BEFORE_ALL).next("ALTER TABLE rehearsed_nowhere ADD COLUMN id int")
            yield "a first deploy that fails", lambda: self._failing_first(failing)
            yield "the end of what it left", lambda: self._delete(failing)
        yield "the first deploy", lambda: self._first_deploy(first)
        yield "a second one, without changes", lambda: self._without_changes(first)
        yield "each event, from the uploaded code", self._events
        second = first.next("CREATE TABLE rehearsed_second (id int PRIMARY KEY)")
        yield "a new release", lambda: self._new_release(second, "rehearsed_second")
        if first.migrations is not None:
            broken = second.next("ALTER TABLE rehearsed_nowhere ADD COLUMN id int")
            yield "a migration that fails", lambda: self._failing_migration(broken)
            third = replace(second, number=broken.number).next("CREATE TABLE rehearsed_third (id int PRIMARY KEY)")
        else:
            third = second.next()
        yield "a later resource that fails", lambda: self._later_failure(third, "rehearsed_third")
        yield "the same once more", lambda: self._new_release(third, None)
        yield "back to the older release", lambda: self._older_release(second)
        yield "the end of the stack", lambda: self._delete(second)

    def _failing_first(self, release: Release) -> Iterator[str]:
        """Nothing stays in the database, and a stack that can only be deleted."""
        yield from self._deploys(release, 1)
        yield from differences(Seen("ROLLBACK_COMPLETE"), self._seen())

    def _first_deploy(self, release: Release) -> Iterator[str]:
        yield from self._deploys(release, 0)
        found = self._seen()
        yield from differences(replace(found, status="CREATE_COMPLETE", revision=release.revision), found)
        yield from unresolved(self._project.template.content.get("Outputs") or {}, found.outputs)
        self._code_of = {release.number: found.code}

    def _without_changes(self, release: Release) -> Iterator[str]:
        asked = len(self._account.custom_resources.requests)
        done = yield from self._deploys(release, 0)
        if NO_CHANGES not in done.printed:
            yield f"sam does not say {NO_CHANGES!r}"
        if asked != len(self._account.custom_resources.requests):
            yield "a custom resource was asked"
        yield from differences(self._now, self._seen())

    def _events(self) -> Iterator[str]:
        """All that the catalogue has, in its order, for they share a database; each function's first by the program."""
        asked: set[str] = set()
        for case in self._project.cases():
            # The deploy itself has sent what CloudFormation sends.
            if case.function in self._project.template.called_at_deploy():
                continue
            if case.function in asked:
                answer = self._account.functions.invoke(self._function(case), case.payload).payload
            else:
                answer, done = self._sam.invoke(case)
                self.log += done.printed
                asked.add(case.function)
            if problem := case.problem(answer):
                yield f"{case.name}: {problem}"

    def _new_release(self, release: Release, table: str | None) -> Iterator[str]:
        yield from self._deploys(release, 0)
        found = self._seen()
        yield from differences(self._expected("UPDATE_COMPLETE", release.revision, table, code=found.code), found)
        if same := sorted(name for name, digest in found.code.items() if digest == self._now.code.get(name)):
            yield f"the code is that of the release before: {', '.join(same)}"
        self._code_of[release.number] = found.code

    def _failing_migration(self, release: Release) -> Iterator[str]:
        yield from self._deploys(release, 1)
        expected = self._expected("UPDATE_ROLLBACK_COMPLETE", self._now.revision, None)
        yield from differences(expected, self._seen())

    def _later_failure(self, release: Release, table: str) -> Iterator[str]:
        """The migration has run by then. What it did stays: the older code has to live with it."""
        execution = self._account.cloudformation.execution(STACK)
        execution.refused[self._last_function()] = THROTTLED
        yield from self._deploys(release, 1)
        expected = self._expected("UPDATE_ROLLBACK_COMPLETE", release.revision, table)
        yield from differences(expected, self._seen())

    def _older_release(self, release: Release) -> Iterator[str]:
        """The code goes back, the schema does not."""
        yield from self._deploys(release, 0)
        expected = self._expected("UPDATE_COMPLETE", self._now.revision, None, code=self._code_of[release.number])
        yield from differences(expected, self._seen())

    def _delete(self, release: Release) -> Iterator[str]:
        """The schema outlives the stack."""
        done = self._sam.delete(release)
        self.log += done.printed
        if done.status:
            yield f"sam delete ended with {done.status}"
        yield from differences(replace(self._now, status=None, outputs={}, code={}), self._seen())

    def _deploys(self, release: Release, status: int) -> Generator[str, None, Done]:
        done = self._sam.deploy(release)
        self.log += done.printed
        if done.status != status:
            yield f"sam deploy ended with {done.status}, not {status}"
        return done

    def _expected(self, status: str, revision: str | None, table: str | None, **more: Mapping[str, str]) -> Seen:
        """As it stands, but for that. A table is there where there are migrations to make it."""
        schema = self._now.schema | ({f"{self._schema_name()}.{table}"} if table and self.first.migrations else set())
        return replace(self._now, status=status, revision=revision, schema=schema, **more)

    def _schema_name(self) -> str:
        """Where the migrations make their tables: where Alembic keeps its own."""
        return next(
            (name.partition(".")[0] for name in self._now.schema if name.endswith(".alembic_version")), "public"
        )

    def _function(self, case: Case) -> UploadedFunction:
        function: UploadedFunction = self._account.cloudformation.execution(STACK).resources[case.function]
        return function

    def _last_function(self) -> str:
        """The one that is updated after all others, and so after the migration that it waits for."""
        execution = self._account.cloudformation.execution(STACK)
        functions = self._project.functions()
        called = self._project.template.called_at_deploy()
        return [
            one for one in in_order(execution.state.template["Resources"]) if one in functions and one not in called
        ][-1]


def _show(outcome: Outcome) -> Outcome:
    found = outcome.found
    print(_line(outcome.name, found.status or "none", found.revision or "", f"{outcome.seconds:.0f}"), flush=True)
    for problem in outcome.problems:
        print(f"  {problem}", file=sys.stderr, flush=True)
    return outcome


def _line(step: str, stack: str, schema: str, seconds: str) -> str:
    return f"{step:<36} {stack:<26} {schema:<14} {seconds:>4}"
