"""PyMySQL's connection with flights: BEGIN, the limits and the first statement of a unit of work in one packet.

The protocol takes several statements in one packet, and answers them one after another; the first that fails ends it.
(Packets that are sent without waiting for answers would do the same, but hang on Aurora: CONJ-386 of MariaDB's driver
for Java, https://mariadb.com/kb/en/6057/.) So a unit's first statement travels behind its opening, and what must not
outlive the unit is taken back behind its COMMIT. A statement of a ``db.read`` has both around it: one round trip.

Only what is composed here has several statements. A text of somebody else's that may hold more than one goes alone,
with the server told before to refuse that, as it does to who has not asked for it.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pymysql import connections, err
from pymysql.constants import CLIENT, COMMAND, SERVER_STATUS

from db.errors import ASKED_TO_BE_READ_ONLY, CAME_IN_COMMIT, ConfigurationError

from .commit_outcome import Unit
from .mysql_text import kind_of, may_be_several
from .pipeline import is_readable
from .session_leftovers import LEFT, note_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from db.timing.deadline import Limits

    from .mysql_text import Kind

_STRICT = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO"
_DEADLOCK, _LOCK_TIMEOUT, _READ_ONLY, _LOST = 1213, 1205, 1792, 2013
# The server ends it while nobody speaks, and says so ahead of its end: what was sent behind that was not read.
_IDLE_END = 4031
_OUT_OF_SYNC = 2014  # CR_COMMANDS_OUT_OF_SYNC
_NO_CLEAR_PASSWORD = 2059  # CR_AUTH_PLUGIN_CANNOT_LOAD
_ON, _OFF = b"\x00\x00", b"\x01\x00"
# Before the server's own time: what is sent as that ends would meet it on the way.
_EARLIER_S = 1.0
# How long the KILL of a statement, and the answer to what was killed, may take.
_KILL_S = 2.0
# In seconds, but for the first: as libpq is told in ``pool.connect_arguments``. Linux has all of them.
_SILENT_PEER = {
    getattr(socket, name): value
    for name, value in {
        "TCP_USER_TIMEOUT": 5_000,
        "TCP_KEEPIDLE": 5,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 3,
    }.items()
    if hasattr(socket, name)
}
_ENDED = "the server has rolled back the whole transaction ({}): nothing more can be done in it"


class Prologue(Protocol):
    """What a unit of work says of its limits."""

    tenant: str | None

    def tell(self, tenant: str | None) -> None: ...

    def limits_now(self) -> Limits: ...


class Info(NamedTuple):
    """What is known of a connection without asking."""

    backend_pid: int
    dbname: str
    host: str
    port: int
    user: str


class MySqlConnection(connections.Connection):  # type: ignore[misc]  # PyMySQL is not typed
    """``pymysql.Connection`` whose transactions open in one flight, and which may work for a unit.

    ``prologue`` says its limits. ``begun`` counts the transactions that were opened for it. With ``single_reads`` each
    statement is a read-only transaction of its own. ``unproven``: nothing has come back for this checkout yet, and
    ``undone``: what was sent of it, if anything, has been undone with the connection.
    """

    prologue: Prologue | None = None
    unit: Unit | None = None
    single_reads = False
    begun = 0
    read_only = False
    unproven = True
    undone = True
    abandoned = False
    serves_until = math.inf
    pools_notes: dict[Any, Any] | None = None
    wait_timeout_s = math.inf
    facts: dict[str, Any]
    level: str | None = None  # what whoever has the plain engine asked for
    _isolation: str | None = None
    _patience_s: Callable[[], float | None] | None = None
    _plain: Unit | None = None  # what came of a COMMIT outside of any unit
    _is_open = False  # the unit's opening was sent
    _wrote = False  # something in this transaction that its end decides about
    _dirty = False  # there may be a transaction, whatever the last status said
    _is_limited = False  # a unit's limits hold for the session
    _takes_several = True
    _rolled_back: int | None = None  # the server ended the transaction, by this error
    _last_used = 0.0
    _read_timeout: float | None = None  # PyMySQL's: seconds to wait for a packet
    _affected_rows: int = 0
    _statement_s = math.inf  # how long a statement may take that the server does not limit

    def __init__(self, *args: Any, client_flag: int = 0, **kwargs: Any) -> None:
        """PyMySQL's arguments. A server may ask for the password itself, as RDS does for a token: over TLS alone."""
        kwargs["auth_plugin_map"] = {b"mysql_clear_password": _ClearPassword}
        self.facts = {}
        self._due: list[bytes] = []  # what is about savepoints, and goes with the next statement
        super().__init__(*args, client_flag=client_flag | CLIENT.MULTI_STATEMENTS, **kwargs)

    # What a unit of work calls.

    def serve(
        self,
        prologue: Prologue,
        patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,
        read_only: bool,
        pooled: bool,  # noqa: ARG002 - no pooler is served before this engine
    ) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        if self._has_transaction():
            try:
                self.rollback()  # a listener's to this checkout
            except err.MySQLError:
                self._force_close()  # which is what the first statement finds
        self.prologue, self.unit, self._patience_s = prologue, unit, patience_s
        self._isolation, self.read_only = isolation, read_only
        self.begun, self._rolled_back, self._wrote = 0, None, False
        unit.connection = self
        if self.pools_notes is not None and LEFT in self.pools_notes:
            del self.pools_notes[LEFT]  # said by a listener to this checkout, as to every other

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        if self._sock is not None and (self._is_open or self._is_limited):
            # Nobody ended its transaction, or its limits: whoever comes next must not work within them.
            self.abandon()
        self.prologue = self.unit = self._patience_s = self._isolation = self._rolled_back = None
        self.single_reads = self.read_only = self._is_open = self._wrote = False
        self._statement_s, self._read_timeout = math.inf, None

    def parked(self) -> None:
        """A pool keeps the connection: it may die before its next user has sent anything."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way
        self.unproven, self.undone, self._plain = True, True, None

    def take_over(self, stale: MySqlConnection) -> None:
        """Stand in for ``stale``, which died before it did anything: the transaction to come is to be the same."""
        if stale.unit is None:
            return
        self.prologue, self.unit, self._patience_s = stale.prologue, stale.unit, stale._patience_s
        self.single_reads, self.read_only, self._isolation = stale.single_reads, stale.read_only, stale._isolation
        self._due = stale._due
        self.unit.connection = self

    @property
    def failed(self) -> bool:
        """Whether the server has ended the transaction: what was done in it is undone, and no COMMIT brings it back.

        Any other error undoes its statement alone, here.
        """
        return self._rolled_back is not None

    @property
    def takes_no_writes(self) -> bool:
        """Whether the server said so of itself when it let this connection in: a replica, or Aurora's reader."""
        return any(str(self.facts[name]).upper() in {"1", "ON"} for name in ("read_only", "innodb_read_only"))

    def hold(self, statement_s: float, lock_s: float) -> None:
        """Serve what changes the schema, with these limits, as long as the connection lives."""
        said = [f"{name} = {max(int(lock_s), 1)}" for name in ("innodb_lock_wait_timeout", "lock_wait_timeout")]
        if statement_s < math.inf:
            said.append(f"{self._limit_name} = {self._limit_value(statement_s)}")
            self._statement_s = math.inf if self.limits_writes else statement_s
        self.say("SET " + ", ".join(f"SESSION {one}" for one in said))

    def say(self, statement: str) -> None:
        """Send ``statement``, which is this package's own, and gives no rows: nobody is told what it leaves."""
        self._send_alone(statement.encode(), unbuffered=False, is_several=False)

    def let_go(self) -> None:
        """That is over, and so is the connection."""

    @property
    def is_fit(self) -> bool:
        """Whether the socket is open and has nothing to say, and the server had no reason to end it. No trip."""
        idle_s = self.wait_timeout_s - min(_EARLIER_S, self.wait_timeout_s / 2)
        if self._sock is None or time.time() - self._last_used > idle_s:
            return False
        return not is_readable(self._sock.fileno())

    @property
    def info(self) -> Info:
        """Who is at the other end, by the names that psycopg has for it; ``backend_pid`` is what KILL takes."""
        user, database = (_text(given) for given in (self.user, self.db))
        return Info(int(self.thread_id()), database, _text(self.host), int(self.port), user)

    def abandon(self) -> None:
        """Close the connection in the middle of an answer: nobody can read on, and nothing of it may be kept."""
        self.abandoned = True
        self._force_close()

    def hang_up(self) -> None:
        """Close it without a word: the server may be in the middle of one."""
        self._force_close()

    # What the driver's cursors call.

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """PyMySQL's, with what is due on the way."""
        text = sql.encode(self.encoding, "surrogateescape") if isinstance(sql, str) else bytes(sql)
        text = text.rstrip().removesuffix(b";").rstrip()  # of which the server makes nothing, but behind another one
        kind = kind_of(text)
        self._look_at(kind)
        if kind.waits and self.unit is not None and not unbuffered:
            return self._keep(text)
        if self.unproven and not self.is_fit:
            self._force_close()
            raise err.OperationalError(_LOST, "Lost connection to MySQL server while it was idle: nothing was sent")
        self._be_patient()
        opening = self._opening()
        closing: list[bytes] = []
        is_several = may_be_several(text, backslashes=self._has_backslashes())
        if opening:
            rides = kind.rides and not unbuffered and not is_several
            if rides and self.single_reads and kind.reads:
                closing = self._closing(b"COMMIT")
            self._note_opening(kind if rides else None)
        else:
            rides = kind.rides and bool(self._due) and not unbuffered and not is_several
        ahead = [*opening, *self._due]
        try:
            if ahead and not rides:
                self._fly(ahead)
            if rides and ahead:
                with self._in_time():
                    self._fly([*ahead, text], closing)
            else:
                with self._in_time():
                    self._send_alone(text, unbuffered=unbuffered, is_several=is_several)
        except err.MySQLError as error:
            self._heard(error)
            raise
        if closing:
            self._note_end()
        self._due.clear()
        return int(self._affected_rows)

    def _be_patient(self) -> None:
        """Wait for what comes next as long as the invocation lasts, and no longer."""
        self._read_timeout = None if self._patience_s is None else self._patience_s()

    def _keep(self, text: bytes) -> int:
        """Let ``text``, which is about a savepoint, go with the next statement; it has no rows."""
        self._due.append(text)
        self._result = connections.MySQLResult(self)
        self._result.connection, self._result.affected_rows, self._result.insert_id = None, 0, 0
        return 0

    def _look_at(self, kind: Kind) -> None:
        """Note what a statement leaves, and refuse what would break a promise of the unit's."""
        if kind.leaves is not None:
            self._note_left(kind.leaves)
        if self._rolled_back is not None:
            raise err.InternalError(self._rolled_back, _ENDED.format(f"error {self._rolled_back}"))
        if self.unit is None:
            return
        if kind.ends:
            problem = f"{kind.named} within a unit of work: its block begins and ends the transaction"
            raise ConfigurationError([f"{problem}, and begin_nested() undoes a part"])
        if kind.commits:
            if self.read_only:
                raise ConfigurationError([f"{kind.named} in a unit of work that only reads"])
            if self._wrote:
                problem = f"{kind.named} would commit what the unit of work has written before it"
                raise ConfigurationError([f"{problem}: give it a unit of its own"])
            self.unit.committed = True
        elif not (kind.reads or kind.waits):
            self._wrote = True

    def _opening(self) -> list[bytes]:
        """What has to go ahead of the next statement."""
        if self.prologue is None or self._is_open:
            return []
        limits = self.prologue.limits_now()
        opening = [self._limiting(limits)]
        if self._isolation is not None:
            opening.append(f"SET TRANSACTION ISOLATION LEVEL {self._isolation}".encode())
        return [*opening, b"START TRANSACTION"]

    def _limiting(self, limits: Limits) -> bytes:
        # Whole seconds, of which there is at least one: a statement's own limit ends what waits for a lock for longer.
        lock_s = max(int(limits.lock_s), 1)
        said = [f"innodb_lock_wait_timeout = {lock_s}", f"lock_wait_timeout = {lock_s}"]
        said.append(f"{self._limit_name} = {self._limit_value(limits.statement_s)}")
        if not self.limits_writes:
            self._statement_s = limits.statement_s
        if self.read_only:
            # Not by START TRANSACTION READ ONLY: DDL would commit that, and then run.
            said.append(f"{self._read_only_variable} = 1")
        return b"SET " + ", ".join(f"SESSION {one}" for one in said).encode()

    def _closing(self, end: bytes) -> list[bytes]:
        """``end``, and what takes a unit's limits off the session again."""
        if not self._is_limited and self.prologue is None:
            return [end]
        names = ["innodb_lock_wait_timeout", "lock_wait_timeout"]
        names.append(self._limit_name)
        said = [f"SESSION {name} = DEFAULT" for name in names]
        if self.read_only:
            said.append(f"SESSION {self._read_only_variable} = 0")
        return [end, ("SET " + ", ".join(said)).encode()]

    @property
    def is_mariadb(self) -> bool:
        return "MariaDB" in self.server_version

    @property
    def limits_writes(self) -> bool:
        """Whether the server's limit is for all statements, and not only for those that read: else they are killed."""
        return self.is_mariadb

    @property
    def _limit_name(self) -> str:
        return "max_statement_time" if self.is_mariadb else "max_execution_time"

    def _limit_value(self, statement_s: float) -> str:
        # The one counts in seconds, the other in milliseconds; 0 is none, to both.
        return f"{max(statement_s, 0.001):.3f}" if self.is_mariadb else str(max(int(statement_s * 1000), 1))

    @property
    def _read_only_variable(self) -> str:
        return "tx_read_only" if self.is_mariadb else "transaction_read_only"

    def _note_opening(self, riding: Kind | None) -> None:
        # The end of the connection undoes what rides, as it undoes what opens a transaction and nothing else.
        self.undone = True
        self._is_open = self._is_limited = self._dirty = True
        if riding is None or not (self.single_reads and riding.reads):
            self.begun += 1

    def _note_end(self) -> None:
        self._due.clear()
        self._is_open = self._dirty = self._wrote = self._is_limited = False
        self._rolled_back = None

    def _note_left(self, kind: str) -> None:
        if self.unit is not None:
            self.unit.leaves.add(kind)
        else:
            note_left(self.pools_notes, kind)

    def _heard(self, error: BaseException) -> None:
        """``error`` came for a statement: is it one that ended the whole transaction?"""
        if self._sock is not None:
            self._due.clear()  # the error is the statement's own: what was ahead of it has been run
        code = error.args[0] if error.args else None
        if code == _DEADLOCK or (code == _LOCK_TIMEOUT and self.facts.get("innodb_rollback_on_timeout")):
            if self.unit is not None:
                self._rolled_back = int(code)
                self.begun += 1  # what would come next were in another one
        elif code == _READ_ONLY and self.read_only:
            setattr(error, ASKED_TO_BE_READ_ONLY, True)
        if self._sock is not None:
            self.unproven = False

    # What goes over the socket.

    def _fly(self, statements: Sequence[bytes], closing: Sequence[bytes] = ()) -> None:
        """Send all in one packet, and read the answers; what stays as the result is that of the last of ``statements``.

        Raises what the server says of the first that fails, and then it has run none of those behind.
        """
        self._allow_several(True)
        # On a line of its own, each: a comment at the end of one ends with its line.
        self._send(b"\n;".join([*statements, *closing]))
        self._next_answers(len(statements), more=bool(closing))
        if closing:
            # A cursor knows its own result by that.
            kept, affected = self._result, self._affected_rows
            self._next_answers(len(closing))
            self._result, self._affected_rows = kept, affected
            kept.has_next = False

    def _send_alone(self, text: bytes, *, unbuffered: bool, is_several: bool) -> None:
        if is_several:
            self._allow_several(False)
        if not self.get_autocommit():
            self._dirty = True
        self.undone = False
        self._send(text)
        self._next_answer(unbuffered=unbuffered)

    def _send(self, packet: bytes) -> None:
        self._last_used = time.time()
        with self._whole():
            self._execute_command(COMMAND.COM_QUERY, packet)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """What an exception of somebody else's breaks off in here, is the end of the connection."""
        try:
            yield
        except err.MySQLError:
            raise
        except BaseException:
            self.abandon()  # what comes next would be taken for another's answer
            raise

    def _next_answers(self, count: int, *, more: bool = False) -> None:
        """The next ``count`` answers, behind which there are ``more`` or none. Raises where the server has others."""
        for left in reversed(range(count)):
            self._next_answer()
            if bool(self._result.has_next) is not (left > 0 or more):
                self.abandon()
                raise err.InternalError(_OUT_OF_SYNC, "the server has answered other statements than were sent")

    def _next_answer(self, *, unbuffered: bool = False) -> None:
        with self._whole():
            self._affected_rows = self._read_query_result(unbuffered=unbuffered)
        self.unproven = False
        self._dirty = unbuffered or self._is_open or bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def _allow_several(self, several: bool) -> None:
        if several is not self._takes_several:
            self._execute_command(COMMAND.COM_SET_OPTION, _ON if several else _OFF)
            self._read_packet()
            self._takes_several = several

    def _has_backslashes(self) -> bool:
        return not self.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """What is sent here is ended from outside where the server does not limit it, and lasts too long."""
        if self._statement_s == math.inf:
            yield
            return
        killer = threading.Timer(self._statement_s, self._kill)
        killer.daemon = True
        killer.start()
        try:
            yield
        finally:
            killer.cancel()
            killer.join()  # or it would strike at what comes next

    def _kill(self) -> None:
        """End, over another connection, what this one's statement does; the answer says so (1317).

        Where that cannot be done, the end of the invocation's time ends the wait.
        """
        with contextlib.suppress(err.MySQLError, OSError):
            self._kill_over_another()

    def _kill_over_another(self) -> None:
        other = connections.Connection(
            host=self.host,
            port=self.port,
            unix_socket=self.unix_socket,
            user=self.user,
            password=self.password,
            connect_timeout=_KILL_S,
            read_timeout=_KILL_S,
            ssl=self.ctx if self.ssl else None,
            ssl_disabled=not self.ssl,
            auth_plugin_map=self._auth_plugin_map,
        )
        try:
            other.query(f"KILL QUERY {self.thread_id()}")
        finally:
            other.close()

    # The ends of a transaction.

    def commit(self) -> None:
        """PyMySQL's, with the unit's limits behind it. Nothing is sent where there is nothing to end."""
        if not self._has_transaction():
            self._note_end()
            return
        unit = self._noted()
        unit.outcome_unknown = True
        try:
            self._end(b"COMMIT")
        except BaseException as error:
            unit.commit_failed(error, refused=self._is_refusal(error))
            raise

    def rollback(self) -> None:
        """Likewise."""
        if self._sock is None and self._plain is not None and self._plain.outcome_unknown:
            error = err.InterfaceError(0, "")
            setattr(error, CAME_IN_COMMIT, True)  # it takes the place of the one that came there
            raise error
        if not self._has_transaction():
            self._note_end()
            return
        self._end(b"ROLLBACK")

    def begin(self) -> None:
        """PyMySQL's. A unit of work's opening goes with its first statement."""
        if self.prologue is None:
            super().begin()
            self._dirty = True

    def _end(self, end: bytes) -> None:
        statements = self._closing(end)
        # Of what is due, only what undoes something is missed by a COMMIT.
        due = (
            list(self._due)
            if end == b"COMMIT" and any(kind_of(one).waits and b"TO" in one.upper() for one in self._due)
            else []
        )
        if len(statements) > 1 or due:
            self._allow_several(True)
        self._be_patient()
        self._send(b"\n;".join([*due, *statements]))
        self._next_answers(len(due) + 1, more=len(statements) > 1)
        if end == b"COMMIT":
            self._noted().commit_answered(committed=not self.failed)
        try:
            self._next_answers(len(statements) - 1)
        except err.MySQLError:
            self.abandon()  # it has ended as asked; a session that keeps the limits is of no use to anybody
        self._note_end()

    def _noted(self) -> Unit:
        """Where it is written down what comes of a COMMIT."""
        if self.unit is not None:
            return self.unit
        if self._plain is None:
            self._plain = Unit()
        return self._plain

    def _is_refusal(self, error: BaseException) -> bool:
        """Whether ``error`` is the server's word that COMMIT did not take place."""
        if not isinstance(error, err.MySQLError):
            return False
        code = error.args[0] if error.args else 0
        if code == _IDLE_END:
            return True  # it had ended before the COMMIT came
        # 2000 to 2999 are the client's own, of a connection that is lost; the others, of a server that ends it.
        return self._sock is not None and not 2000 <= code < 3000 and code not in {1053, 1927, 0}  # noqa: PLR2004

    def _has_transaction(self) -> bool:
        return self._sock is not None and (self._dirty or self._is_open)

    # The connect.

    def connect(self, sock: Any = None) -> None:
        """PyMySQL's; a peer that goes silent is given up as soon as psycopg's is."""
        super().connect(sock)
        if self.unix_socket is None:
            for option, value in _SILENT_PEER.items():
                self._sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """PyMySQL's, which it calls in each connect; here with all else that is to hold for the session, in one trip.

        Strict, or what does not fit into a column would be cut to fit. In UTC, as everything is that counts seconds.
        """
        if self.facts:
            super().set_character_set(charset, collation)
            return
        collate = f" COLLATE {collation}" if collation else ""
        level = "tx_isolation" if self.is_mariadb else "transaction_isolation"
        names = ["version", "wait_timeout", "lower_case_table_names", "sql_mode", level, "innodb_rollback_on_timeout"]
        names += ["read_only", "innodb_read_only"]
        self._execute_command(
            COMMAND.COM_QUERY,
            (
                f"SET NAMES {charset}{collate}, SESSION sql_mode = CONCAT(@@sql_mode, ',{_STRICT}'),"
                f" SESSION time_zone = '+00:00', SESSION autocommit = 0"
                f"\n;SELECT DATABASE(), {', '.join(f'@@{name}' for name in names)}"
            ).encode(),
        )
        self._read_query_result()
        self._read_query_result()
        (row,) = self._result.rows
        self.facts = dict(zip(["database", *names], row, strict=True))
        self.facts["isolation"] = self.facts.pop(level)
        self.server_version = self.facts["version"]  # a proxy greets with one of its own
        self.wait_timeout_s = float(self.facts["wait_timeout"])
        self._last_used = time.time()
        self._result = None

    def ping(self, reconnect: bool = False) -> None:
        """PyMySQL's, without a way to connect anew: what was said of the session would be gone."""
        if reconnect:
            raise err.InterfaceError(0, "a connection of a pool's is not connected anew: the pool makes another")
        super().ping(reconnect=False)
        self._last_used = time.time()


class _ClearPassword:
    """The password as it is, for who asked for encryption; whoever answers in the server's place is not to have it."""

    def __init__(self, connection: MySqlConnection) -> None:
        self._connection = connection

    def authenticate(self, _packet: Any) -> Any:
        connection = self._connection
        if not (connection._secure and connection._ssl_required):
            raise err.OperationalError(
                _NO_CLEAR_PASSWORD, "the server asks for the password unencrypted: set DB_SSLMODE=verify-full"
            )
        connection.write_packet(connection.password + b"\0")
        answer = connection._read_packet()
        answer.check_error()
        return answer


def _text(given: Any) -> str:
    # PyMySQL makes bytes of what it sends in the login.
    return given.decode() if isinstance(given, bytes) else str(given or "")
