"""A plan in sentences, each number with what it comes from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .changes import that_fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .planned import Planned
    from .sums import Plan, Side, Use

_ROUTES = {"server": "", "rds-proxy": ", through the RDS Proxy", "pgbouncer": ", through PgBouncer"}


def as_text(planned: Planned) -> str:
    """All of it: who holds how many, who holds none, the sums, and what to do."""
    return "\n".join(_lines(planned))


def verdict(planned: Planned) -> str:
    """The sum of each server that is too small, and what to do, without who holds how many."""
    plan = planned.plan
    if plan is None:
        return ""
    sums = [_sum(side) for side in plan.sides if not side.fits]
    return " ".join([*sums, *(f"{one}." for one in planned.wrong), *([] if plan.fits else _remedies(plan))])


def _lines(planned: Planned) -> Iterator[str]:
    plan = planned.plan
    if plan is not None:
        for use in plan.uses:
            yield _held(use)
        yield from _sharing(planned, plan)
        for line in plan.beside:
            yield f"{line.name}, beside them, holds {line.at_work}, and as many again while it is deployed."
    for one in planned.out:
        yield f"{one.name} is left out: it {one.why}."
    yield from planned.notes
    if plan is None:
        yield "No function here uses a database."
        return
    yield ""
    for side in plan.sides:
        yield _sum(side)
    yield from _notes(planned, plan)
    if not plan.fits:
        yield ""
        yield from _remedies(plan)


def _notes(planned: Planned, plan: Plan) -> Iterator[str]:
    if any(use.reader for use in plan.uses) and plan.reader is None:
        yield (
            "What goes to the reader is counted as the writer's, to which a reader endpoint leads where there is one"
            " server: --reader-max-connections says what a reader of its own takes."
        )
    if any(use.route == "rds-proxy" for use in plan.uses):
        yield (
            f"The RDS Proxy opens {plan.of_proxy} at most, which is MaxConnectionsPercent {plan.percent} of"
            f" {plan.writer.most}, and no more than it has clients. Where those are more, they wait for their turn; a"
            " session that is pinned keeps its connection from them."
        )
    if any(use.route == "pgbouncer" for use in plan.uses):
        yield f"PgBouncer opens {plan.pool} at most, and no more than it has clients, who take turns."
    yield from (f"But {one}." for one in planned.wrong)


def _remedies(plan: Plan) -> Iterator[str]:
    found = that_fit(plan)
    if not found:
        yield "It does not fit, and no single change makes it."
        return
    yield f"It does not fit. The smallest change that fits: {found[0].text}."
    yield from (f"Or: {change.text}." for change in found[1:])


def _held(use: Use) -> str:
    each = f"{_connections(use.kept + use.passing)} each ({use.each}){_ROUTES[use.route]}"
    if use.environments is None:
        some = f", {use.why}" if use.why else ""
        return f"{use.name} {use.evidence}. Its environments{some} have {each}."
    there = math.ceil(use.environments * use.kept_for_one)
    isolated = f", for which Lambda keeps {there}, each for one tenant" if there > use.environments else ""
    left = use.left(use.environments)
    deploy = f", and {left} more of the version before, during a deploy" if left else ", also during a deploy"
    return (
        f"{use.name} {use.evidence}. It has {_of(use.environments, 'environment', 'environments')} at most, {use.why}"
        f"{isolated}; {each}. That is {use.at_work(use.environments)}{deploy}."
    )


def _sharing(planned: Planned, plan: Plan) -> Iterator[str]:
    sharing = [use.name for use in plan.uses if use.environments is None]
    if sharing:
        only, them = ("reserves", "it") if len(sharing) == 1 else ("reserve", "them")
        less = f"{planned.account} less {planned.reserved} that are reserved, " if planned.reserved else ""
        yield (
            f"{_and(sharing)} {only} nothing, so all that the account has is for {them}: {less}{plan.unreserved}"
            " environments (--account says another number)."
        )


def _sum(side: Side) -> str:
    server, demand = side.server, side.most
    sentences = [f"{server.what[:1].upper()}{server.what[1:]} takes {_connections(server.most)} ({server.source})."]
    if server.reserved:
        sentences.append(f"It keeps {server.reserved} for superusers, which leaves {server.usable}.")
    several = f"{' + '.join(str(line.most) for line in side.lines)} = " if len(side.lines) > 1 else ""
    sooner = f", {side.at_work} of them without a deploy" if side.at_work != demand else ""
    sentences.append(f"What may connect is {several}{demand} at most{sooner}.")
    if server.people:
        demand += server.people
        sentences.append(f"With {server.people} for a person, a dashboard and a backup it is {demand}.")
    if side.fits:
        sentences.append(f"It fits: {server.usable - demand} are left over.")
    else:
        sentences.append(f"That is {demand - server.usable} too many.")
    return " ".join(sentences)


def _connections(count: int) -> str:
    return _of(count, "connection", "connections")


def _of(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
