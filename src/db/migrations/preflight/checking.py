"""``check``: one connection is opened for it, and every rule says something."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING

import sqlalchemy as sa

from db.environment.runtime import Runtime
from db.errors import ConfigurationError, claim, in_words_of
from db.migrations.operations import ONCE_TABLE
from db.migrations.tenancy import IN_VAIN, audit
from db.work.database import holder_of

from . import configured, entering, limits, objects, server
from .finding import Report, error, not_applicable, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection

    from db.migrations.tenancy import Finding as TenancyFinding
    from db.settings import Settings
    from db.work.database import Database

    from .finding import Finding
    from .server import Facts

# What is said of PostgreSQL alone, in the order of the table; the same where no connection came to be.
_OF_POSTGRESQL = (
    "TLS",
    "certificate",
    "server",
    "clock",
    "password",
    "writes",
    "session",
    "proxy",
    "prepared statements",
    "connections",
    "schema",
    "privileges",
    "once",
    "prologue function",
    "reader",
    "tenants",
)
_OF_SETTINGS = ("names", "log", "pool size", "liveness", "end", "credentials", "connect")
_QUOTES = {"credentials", "connect", "reader", "tenants"}  # what others have said, in words that are not to be changed
_NAMED = 5  # of the tables with one fault


def check(database: Database | None = None, *, allowed: Mapping[str, str] | None = None) -> Report:
    """What would break in production, before it does: settings, packages, the way in, the server, and tenants.

    For the default database, or for ``database``, by the settings that it has or would have now. One connection is
    opened for it, in one attempt, beside those of the process; it reads catalogues and no table, and changes nothing.
    ``allowed`` are findings about tenants that are meant to be, each with its reason, as ``db.migrations.audit`` takes
    them. What cannot be looked at, or concerns another engine, is said to be so.

    Raises nothing for what it finds, a configuration that cannot be read included; ValueError for an exception without
    a reason.
    """
    holder = holder_of(database)
    in_use = holder.peek()
    try:
        settings, ignored = holder.found()
    except ConfigurationError as problem:
        if in_use is None:
            return _unreadable(holder.called, problem)
        ignored = []  # what is in use was said in code
    if in_use is not None:
        settings = in_use.settings
    findings = [
        ok("settings", f"for {settings.engine_kind.title}, by {settings.source}"),
        configured.names(settings, ignored),
        configured.packages(),
        configured.log(settings),
        *configured.pool(settings),
        *_connected(settings, allowed or {}),
    ]
    if settings.database is not None:
        findings = [_in_words_of(one, settings.database, settings.prefix) for one in findings]
    return Report(database=holder.called, settings=configured.origins(settings, os.environ), findings=tuple(findings))


def _in_words_of(found: Finding, database: str, prefix: str) -> Finding:
    """``found``, with the names of settings and calls as they are of a further database."""
    words = functools.partial(in_words_of, database=database, prefix=prefix)
    return dataclasses.replace(
        found,
        seen=found.seen if found.subject in _QUOTES else words(found.seen),
        remedy=found.remedy and words(found.remedy),
    )


def _unreadable(called: str, problem: ConfigurationError) -> Report:
    remedy = "Correct the variable that it names."
    findings = [error("settings", said, remedy, "reference/settings/") for said in problem.problems]
    findings.append(configured.packages())
    findings += [not_applicable(subject, "the settings cannot be read") for subject in (*_OF_SETTINGS, *_OF_POSTGRESQL)]
    return Report(database=called, settings={}, findings=tuple(findings))


def _connected(settings: Settings, allowed: Mapping[str, str]) -> Iterator[Finding]:
    # In one attempt: it is to say what is so, and not to wait until it is otherwise.
    url = settings.url if settings.url is None else settings.engine_kind.to_look_at(settings.url)
    runtime = Runtime(dataclasses.replace(settings, connect_wait_s=0.0, url=url))
    try:
        try:
            conn = runtime.engine("unpooled").connect()
        except entering.FAILURES as problem:
            claim(problem, database=settings.database, prefix=settings.prefix)
            refused = list(entering.refusal(problem, settings))
            yield from refused
            yield from _not_looked_at(("credentials", "connect", *_OF_POSTGRESQL), refused, "there is no connection")
            return
        yield entering.credentials(settings)
        yield ok("connect", "in one attempt")
        with conn:
            yield from on_connection(conn, settings, allowed)
        if settings.engine_kind.lacks.get("tenant") is None:
            yield _reader(runtime)
    finally:
        runtime.dispose()


def _not_looked_at(subjects: Iterable[str], found: Iterable[Finding], why: str) -> Iterator[Finding]:
    spoken_of = {one.subject for one in found}
    yield from (not_applicable(subject, why) for subject in subjects if subject not in spoken_of)


def on_connection(conn: Connection, settings: Settings, allowed: Mapping[str, str]) -> Iterator[Finding]:
    """What the server says over ``conn``, by every rule that has to do with it."""
    kind = settings.engine_kind
    if kind.lacks.get("tenant") is not None:
        yield from _of_another(conn, settings)
        return
    tls = list(entering.tls(conn.connection.driver_connection))
    yield from tls
    try:
        facts = server.ask(conn, settings)
    except entering.FAILURES as problem:
        unread = entering.unread("server", problem)
        yield unread
        subjects = (subject for subject in _OF_POSTGRESQL if subject != "reader")
        yield from _not_looked_at(subjects, [*tls, unread], "the server was not asked")
        return
    yield server.version(facts)
    yield server.clock(facts)
    yield server.password(facts, settings)
    yield server.writes(facts)
    yield server.session(facts, settings)
    yield from server.proxy(facts, settings)
    yield limits.connections(facts, settings)
    yield objects.schema(facts, settings)
    yield objects.privileges(facts)
    yield objects.once(facts)
    yield objects.prologue(facts, settings)
    yield from _tenants(conn, facts, settings, allowed)


def _of_another(conn: Connection, settings: Settings) -> Iterator[Finding]:
    kind = settings.engine_kind
    number = ".".join(str(part) for part in conn.dialect.server_version_info or ())
    yield ok("server", f"{kind.title} {number}".rstrip())
    try:
        is_there = sa.inspect(conn).has_table(ONCE_TABLE)
    except entering.FAILURES as problem:
        yield entering.table_unread("once", ONCE_TABLE, problem, settings)
    else:
        no_table = f"there is no table {ONCE_TABLE}: db.once would be refused"
        yield ok("once", f"the table {ONCE_TABLE} is there") if is_there else not_applicable("once", no_table)
    yield not_applicable("tenants", f"{kind.title}: {kind.lacks['tenant']}")
    for subject in _OF_POSTGRESQL:
        if subject not in {"server", "once", "tenants"}:
            yield not_applicable(subject, f"it is looked at on PostgreSQL, and this is {kind.title}")


def _reader(runtime: Runtime) -> Finding:
    """Whether what DB_READER_HOST names is one, and there."""
    prefix = runtime.settings.prefix
    if not runtime.settings.reader_host:
        return not_applicable("reader", f"{prefix}READER_HOST is not set: reads go to the writer")
    try:
        with runtime.engine("reader").connect() as conn:
            is_replica = conn.execute(sa.text("SELECT pg_is_in_recovery()")).scalar_one()
    except entering.FAILURES as problem:
        said = " ".join(one.seen for one in entering.refusal(problem, runtime.settings))
        remedy = f"Let it take the login, or leave {prefix}READER_HOST out: reads fail until then."
        return error("reader", f"what {prefix}READER_HOST names refuses: {said}", remedy, "run/aurora/#readers")
    if is_replica:
        return ok("reader", "a replica answers")
    return warning(
        "reader",
        f"a writer answers: {prefix}READER_HOST names one, or it stands in for a reader that is away",
        "Name the reader's endpoint, and look whether it has an instance.",
        "run/aurora/#readers",
    )


def _tenants(conn: Connection, facts: Facts, settings: Settings, allowed: Mapping[str, str]) -> Iterator[Finding]:
    """The audit, a finding for each of its kinds."""
    if not facts.said["tables"]["of_tenants"]:
        seen = "no table has a column tenant_id"
        if settings.tenant_required:
            remedy = "Add the column, and enable_tenant_rls(op, table), in a migration."
            yield warning("tenants", f"{seen}, and {settings.prefix}TENANT_REQUIRED is set", remedy, "start/tenants/")
        else:
            yield not_applicable("tenants", seen)
        return
    by_kind: dict[str, list[TenancyFinding]] = {}
    try:
        roles = dict.fromkeys([facts.said["login"], facts.said["logged_in_as"]])
        audited = audit(conn, roles=list(roles), allowed=allowed)
    except entering.FAILURES as problem:
        yield entering.unread("tenants", problem)
        return
    for found in audited:
        by_kind.setdefault(found.kind, []).append(found)
    # The exceptions are the project's, and this is one of its logins: what another one needs is not found here.
    by_kind.pop(IN_VAIN, None)
    for kind, of_kind in by_kind.items():
        first = of_kind[0]
        subjects = list(dict.fromkeys(one.subject for one in of_kind))  # one has a finding for each command
        more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
        seen = f"{kind}: {', '.join(subjects[:_NAMED])}{more}: {first.problem}"
        yield error("tenants", seen, first.remedy, "start/tenants/#is-anything-open")
    if not by_kind:
        yield ok("tenants", f"{facts.said['tables']['of_tenants']} tables keep them apart, also for this login")
