"""What would make a plan fit: single changes, each enough by itself, the smallest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .sums import Plan, Server, Use


# PostgreSQL takes no max_connections above it.
MOST = 262_143


@dataclass(frozen=True)
class Change:
    """In words, and what becomes of the plan."""

    text: str
    plan: Plan


def that_fit(plan: Plan) -> list[Change]:
    """The changes that are enough, from the one that takes least.

    First connections that an environment has beyond the one that an event needs; then those of a pooler, whose clients
    take turns as it is; then environments of one function, the fewest first, or the same share of all; then trips, as a
    connection is opened anew; then a larger server.
    """
    if plan.fits:
        return []
    single = list(_one_function(plan))
    found = [*_leaner(plan), *_smaller_pooler(plan), *single, *([] if single else _all_functions(plan))]
    found += [*_opened_anew(plan), *_larger(plan)]
    return [change for change in found if change.plan.fits]


def _leaner(plan: Plan) -> Iterator[Change]:
    """No more than one connection for each event."""
    wide = [use for use in plan.uses if use.kept + use.passing - use.asynchronous > 1]
    for use in wide:
        keeps = replace(use, kept=min(use.kept, 1 + use.asynchronous), passing=0)
        settings = "DB_POOL_SIZE=1 and DB_MAX_OVERFLOW=0" if use.ours else "one connection an environment"
        yield Change(f"give {use.name} {settings}", _with(plan, keeps))
    for use in (use for use in plan.uses if use.asynchronous > 1):
        for fewer in range(use.asynchronous - 1, 0, -1):
            spared = use.asynchronous - fewer
            kept = use.kept - spared if use.kept else 0
            passing = use.passing if use.kept else use.passing - spared
            changed = _with(plan, replace(use, kept=kept, passing=passing, asynchronous=fewer))
            if changed.fits:
                yield Change(f"give {use.name} DB_ASYNC_CONNECTIONS={fewer}", changed)
                break


def _smaller_pooler(plan: Plan) -> Iterator[Change]:
    """A pooler that opens fewer connections; its clients wait for one of them more often."""
    if plan.percent is not None:
        most = _most(plan.percent - 1, lambda percent: replace(plan, percent=percent).fits)
        yield Change(f"set MaxConnectionsPercent of the RDS Proxy to {most}", replace(plan, percent=most))
    if plan.pool is not None:
        most = _most(plan.pool - 1, lambda pool: replace(plan, pool=pool).fits)
        yield Change(f"let PgBouncer open {most} connections, and not {plan.pool}", replace(plan, pool=most))


def _one_function(plan: Plan) -> Iterator[Change]:
    """Fewer environments of one function, whichever gives up fewest of its own first."""
    found = []
    for use in plan.uses:
        now = plan.environments(use)
        most = _most(now - 1, lambda count, use=use: _with(plan, replace(use, environments=count)).fits)  # type: ignore[misc]
        if most:
            changed = _with(plan, replace(use, environments=most))
            found.append(
                (now - most, Change(f"let {use.name} reserve {most} environments, and not {_now(use, now)}", changed))
            )
    yield from (change for _, change in sorted(found, key=lambda one: one[0]))


def _all_functions(plan: Plan) -> Iterator[Change]:
    """The same share of what each has: of those that only the account bounds, where that is enough, or of all."""
    for uses in ([use for use in plan.uses if use.environments is None], list(plan.uses)):
        names = {use.name for use in uses}
        most = _most(999, lambda thousandths, names=names: _shared(plan, names, thousandths).fits)  # type: ignore[misc]
        if most and names:
            changed = _shared(plan, names, most)
            texts = [
                f"{use.name} {use.environments} and not {_now(before, plan.environments(before))}"
                for before, use in zip(plan.uses, changed.uses, strict=True)
                if use.environments != before.environments
            ]
            yield Change(f"let each function reserve fewer environments: {', '.join(texts)}", changed)
            return


def _shared(plan: Plan, names: set[str], thousandths: int) -> Plan:
    uses = (
        replace(use, environments=max(1, plan.environments(use) * thousandths // 1000)) if use.name in names else use
        for use in plan.uses
    )
    return replace(plan, uses=tuple(uses))


def _opened_anew(plan: Plan) -> Iterator[Change]:
    """Nothing kept between events: an event then waits for a connection to be opened."""
    keeping = [use for use in plan.uses if use.ours and use.kept]
    if not keeping:
        return
    changed = plan
    for use in keeping:
        passing = 1 + use.asynchronous
        changed = _with(changed, replace(use, kept=0, passing=passing))
    yield Change(
        f"set DB_POOL=null for {', '.join(use.name for use in keeping)}, which keeps none between events", changed
    )


def _larger(plan: Plan) -> Iterator[Change]:
    """Of the servers that are too small, each as large as it has to be."""
    changed, texts = plan, []
    for place in ("writer", "reader", "clients"):
        server: Server | None = getattr(plan, place)
        if server is None or all(side.fits for side in plan.sides if side.server is server):
            continue
        larger = _as_large_as_it_takes(changed, place, server)
        if larger is None or larger.remedy is None:
            return
        texts.append(larger.remedy(larger.most))
        changed = _in_place(changed, place, larger)
    yield Change(" and ".join(texts), changed)


def _as_large_as_it_takes(plan: Plan, place: str, server: Server) -> Server | None:
    """A proxy may have a share of what a server takes, so the sum may grow with the server."""

    def too_small(most: int) -> bool:
        larger = replace(server, most=most)
        return not all(side.fits for side in _in_place(plan, place, larger).sides if side.server is larger)

    most = _most(MOST, too_small)
    return replace(server, most=most + 1) if most < MOST else None


def _in_place(plan: Plan, place: str, server: Server) -> Plan:
    match place:
        case "writer":
            return replace(plan, writer=server)
        case "reader":
            return replace(plan, reader=server)
    return replace(plan, clients=server)


def _with(plan: Plan, use: Use) -> Plan:
    return replace(plan, uses=tuple(use if one.name == use.name else one for one in plan.uses))


def _now(use: Use, environments: int) -> str:
    return f"{environments}" if use.environments is not None else f"the account's {environments}"


def _most(highest: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 to ``highest`` for which ``fits``; 0 where there is none. What fits, fits below too."""
    low, high = 0, highest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
