"""Which resource has to be there before which.

moto follows DependsOn when it creates, and nothing at all when it updates. CloudFormation sorts both, by DependsOn and
by what a resource mentions: a migration runs after the update of the function that it calls, and before that of the
functions that wait for it. Of those that wait for nothing, it does many at once; here they follow the template.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .failure import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACEHOLDER = re.compile(r"\$\{([^!}][^}]*)\}")


def in_order(resources: Mapping[str, Any]) -> list[str]:
    """The logical ids, each after those that it waits for. Raises Refused for a circle."""
    waiting = {name: (set(_mentioned(resource)) & resources.keys()) - {name} for name, resource in resources.items()}
    done: list[str] = []
    while waiting:
        ready = [name for name, needs in waiting.items() if needs.isdisjoint(waiting)]
        if not ready:
            raise Refused(f"Circular dependency between resources: [{', '.join(sorted(waiting))}]")
        # One at a time, so that what does not wait stays where the template has it.
        done.append(ready[0])
        del waiting[ready[0]]
    return done


def _mentioned(value: Any) -> Iterator[str]:
    """Each name that ``value`` refers to, of resources and of whatever else."""
    if isinstance(value, list):
        for one in value:
            yield from _mentioned(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _named_by(key, inner)
            yield from _mentioned(inner)


def _named_by(key: str, inner: Any) -> Iterator[str]:
    match key, inner:
        case "Ref" | "DependsOn", str(name):
            yield name
        case "DependsOn", list(names):
            yield from names
        case "Fn::GetAtt", str(path) | [str(path), *_]:
            yield path.partition(".")[0]
        case "Fn::Sub", str(text) | [str(text), *_]:
            yield from (name.partition(".")[0] for name in _PLACEHOLDER.findall(text))
