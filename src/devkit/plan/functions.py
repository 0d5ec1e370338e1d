"""How many environments a function can have, and how many connections one of them holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from db.errors import ConfigurationError
from db.settings import PREFIX, Settings
from devkit.app.intrinsics import section

from . import evidence, limits, sources
from .stack import UnsaidError, mentioned
from .sums import Use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .stack import Stack
    from .sums import Route

FUNCTION, MAPPING, ALIAS = "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Alias"
# What calls a function beside a mapping. Whatever calls it by a permission of the function's own has the first.
_CALLERS = (
    *("AWS::Lambda::Permission", "AWS::Lambda::Url", "AWS::StepFunctions::StateMachine"),
    *("AWS::Scheduler::Schedule", "AWS::Events::Rule", "AWS::AppSync::DataSource"),
)
# Settings that count connections; the others may hold what only a deployed stack knows.
_COUNTING = ("pool", "pool_size", "max_overflow", "async_connections")


@dataclass(frozen=True)
class LeftOut:
    """A function that does not use the database; ``why`` ends a sentence that begins with its name."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Told:
    """What somebody says of functions, by name: the connections of an environment, 0 for none; the environments.

    ``prefix`` is what the settings of the database begin with.
    """

    connections: Mapping[str, int]
    environments: Mapping[str, int]
    prefix: str = PREFIX


def uses(stack: Stack, told: Told) -> tuple[list[Use], list[LeftOut]]:
    """Every function of the template, with connections or left out.

    Raises UnsaidError with all that would have to be known.
    """
    functions = stack.of(FUNCTION)
    unknown = [name for name in (*told.connections, *told.environments) if name not in functions]
    if unknown:
        raise UnsaidError(f"there is no function {', '.join(unknown)}: they are {', '.join(functions) or 'none'}")
    asynchronous = _asynchronous(stack)
    found: list[Use] = []
    out: list[LeftOut] = []
    unsaid: list[str] = []
    for name, properties in functions.items():
        one = _Function(stack, name, properties, asynchronous.get(name), told.prefix)
        try:
            if told.connections.get(name) == 0:
                out.append(LeftOut(name, "is left out, as --function says"))
            elif name not in told.connections and not one.shown.uses:
                out.append(LeftOut(name, one.shown.says))
            else:
                found.append(one.use(told))
        except UnsaidError as error:
            unsaid.append(str(error))
    if unsaid:
        raise UnsaidError("\n".join(unsaid))
    return found, out


def reserved(stack: Stack) -> int:
    """What all functions of the template reserve of the account. Raises UnsaidError."""
    functions = stack.of(FUNCTION)
    return sum(_Function(stack, name, one).reserved or 0 for name, one in functions.items())


@dataclass(frozen=True)
class _Connections:
    """What a process keeps, what it has beyond that while it works, how many are of ``db.aio``, and why."""

    kept: int
    passing: int
    asynchronous: int
    why: str


@dataclass(frozen=True)
class _Function:
    stack: Stack
    name: str
    properties: Mapping[str, Any]
    asynchronous: str | None = None
    prefix: str = PREFIX

    @cached_property
    def variables(self) -> dict[str, Any]:
        return evidence.told(self.stack, self.properties, self.prefix)

    @cached_property
    def shown(self) -> evidence.Evidence:
        return evidence.of(self.stack, self.properties, self.prefix)

    def use(self, told: Told) -> Use:
        said = told.environments.get(self.name)
        environments, why = self.environments() if said is None else (said, "as --environments says")
        held = self.connections()
        if self.name in told.connections:
            held = _Connections(told.connections[self.name], 0, 0, "as --function says")
        processes, of_processes = self.processes()
        isolated = bool(self.stack.part(self.properties, "TenancyConfig", self.name))
        return Use(
            name=self.name,
            environments=environments,
            why=why,
            kept=held.kept,
            passing=held.passing,
            each=f"{held.why}{of_processes}",
            kept_for_one=limits.TENANT_FACTOR if isolated and held.kept else 1.0,
            processes=processes,
            reader=self.reads_elsewhere(),
            route=self.route(),
            evidence=self.shown.says,
            ours=self.shown.ours,
            asynchronous=held.asynchronous,
        )

    def environments(self) -> tuple[int | None, str]:
        """How many may be at work at once, and why; None where only the account bounds them."""
        if self.stack.part(self.properties, "CapacityProviderConfig", self.name):
            most = self._scaling()
            return most, f"by MaxExecutionEnvironments {most}"
        bounds = [(self.reserved, f"for it reserves {self.reserved}")] if self.reserved is not None else []
        provisioned, by_queues = self._provisioned(), self._by_queues()
        if by_queues is not None:
            ready = f", and {provisioned} are provisioned" if provisioned else ""
            why = f"for its queues send {by_queues} at once (MaximumConcurrency){ready}"
            bounds.append((max(by_queues, provisioned), why))
        if bounds:
            return min(bounds, key=lambda one: one[0])
        return None, f"{provisioned} of them provisioned" if provisioned else ""

    def _scaling(self) -> int:
        key = "MaxExecutionEnvironments"
        scaling = self.stack.part(self.properties, "FunctionScalingConfig", self.name)
        most = self.stack.count(scaling.get(key), f"{self.name}: {key}")
        if most is None:
            raise UnsaidError(
                f"{self.name} runs on Managed Instances, and no {key} bounds its environments:"
                f" --environments {self.name}=…"
            )
        return most

    @cached_property
    def reserved(self) -> int | None:
        key = "ReservedConcurrentExecutions"
        return self.stack.count(self.properties.get(key), f"{self.name}: {key}")

    def _provisioned(self) -> int:
        """Of its aliases and versions."""
        found, key = 0, "ProvisionedConcurrentExecutions"
        for other, properties in self.stack.of(ALIAS, "AWS::Lambda::Version").items():
            if self.name in mentioned(properties.get("FunctionName")):
                said = self.stack.part(properties, "ProvisionedConcurrencyConfig", other)
                found += self.stack.count(said.get(key), f"{other}: {key}") or 0
        return found

    def _by_queues(self) -> int | None:
        """How many events all of its queues send at once; None where one has no bound, or something else calls it."""
        aliases = self.stack.of(ALIAS).items()
        called = {self.name, *(name for name, one in aliases if self.name in mentioned(one.get("FunctionName")))}
        others: list[Any] = list(self.stack.of(*_CALLERS).values())
        others += [section(resource, "Properties").get("ServiceToken") for resource in self.stack.resources.values()]
        if called & set(mentioned(others)):
            return None
        total = 0
        mappings = {
            name: one
            for name, one in self.stack.of(MAPPING).items()
            if called & set(mentioned(one.get("FunctionName")))
        }
        for name, one in mappings.items():
            scaling = self.stack.part(one, "ScalingConfig", name)
            bound = self.stack.count(scaling.get("MaximumConcurrency"), f"{name}: MaximumConcurrency")
            if bound is None:
                return None
            total += bound
        return total if mappings else None

    def processes(self) -> tuple[int, str]:
        """How many serve events in one environment, in a few words."""
        said = self.stack.part(self.properties, "CapacityProviderConfig", self.name)
        if not said:
            return 1, ""
        provider = self.stack.part(said, "LambdaManagedInstancesCapacityProviderConfig", self.name)
        key, ratio_key = "PerExecutionEnvironmentMaxConcurrency", "ExecutionEnvironmentMemoryGiBPerVCpu"
        most = self.stack.count(provider.get(key), f"{self.name}: {key}")
        if most is not None:
            return most, f", in each of {most} processes ({key})"
        memory_mb = self.stack.number(self.properties.get("MemorySize"), f"{self.name}: MemorySize") or 0
        ratio = self.stack.number(provider.get(ratio_key), f"{self.name}: {ratio_key}") or limits.GIB_PER_VCPU
        vcpus = max(1, math.ceil(memory_mb / 1024 / ratio))
        most = limits.EVENTS_PER_VCPU * vcpus
        return most, f", in each of {most} processes ({limits.EVENTS_PER_VCPU} a vCPU, of which it has {vcpus})"

    def connections(self) -> _Connections:
        """Of one process."""
        if not self.shown.ours:
            return _Connections(1, 0, 0, "for it works on one event at a time, and nothing here says more")
        said = self._settings()
        asks = self.asynchronous is not None or self.variables.get("DB_ASYNC_CONNECTIONS") not in (None, "")
        of_aio: int = said["async_connections"] if asks else 0
        who = f", for {self.asynchronous} imports db.aio" if self.asynchronous else ""
        aio = f" and DB_ASYNC_CONNECTIONS {of_aio}{who}" if of_aio else ""
        if said["pool"] == "null":
            return _Connections(0, 1 + of_aio, of_aio, f"DB_POOL=null, which keeps none between events{aio}")
        overflow = f" and DB_MAX_OVERFLOW {said['max_overflow']}" if said["max_overflow"] else ""
        why = f"DB_POOL_SIZE {said['pool_size']}{overflow}{aio}"
        return _Connections(said["pool_size"] + of_aio, said["max_overflow"], of_aio, why)

    def _settings(self) -> dict[str, Any]:
        """Those that count connections, as `db` would read them; what the function is not told is the default."""
        names = {row: f"DB_{row.upper()}" for row in _COUNTING}
        told = {one: self.stack.text(self.variables.get(one), f"{self.name}: {one}") for one in names.values()}
        try:
            read = Settings.from_env({"DB_SECRET_ID": "any", **told})
        except ConfigurationError as error:
            raise UnsaidError(f"{self.name}: {error}") from error
        return {row: getattr(read, row) for row in names}

    def reads_elsewhere(self) -> bool:
        """Whether `db` has a reader to go to, at an address that is known or that a deployed stack knows."""
        said = self.variables.get("DB_READER_HOST")
        return self.shown.ours and said is not None and self.stack.known.text_or_none(said) != ""

    def route(self) -> Route:
        """What stands between the function and the server."""
        if not self.shown.ours:
            proxies = self.stack.of("AWS::RDS::DBProxy", "AWS::RDS::DBProxyEndpoint")
            return "rds-proxy" if proxies.keys() & set(mentioned(self.variables)) else "server"
        said = self.stack.text(self.variables.get("DB_PROXY"), f"{self.name}: DB_PROXY")
        routes: dict[str, Route] = {"": "server", "none": "server", "rds-proxy": "rds-proxy", "pgbouncer": "pgbouncer"}
        if said not in routes:
            raise UnsaidError(f"{self.name}: DB_PROXY is {said!r}, and not one of {', '.join([*routes][1:])}")
        return routes[said]


def _asynchronous(stack: Stack) -> dict[str, str]:
    """For each function whose code lies here and uses `db.aio`, the module that does."""
    modules = {
        name: sources.asynchronous(function.code, function.handler)
        for name, function in stack.template.functions().items()
    }
    return {name: module for name, module in modules.items() if module is not None}
