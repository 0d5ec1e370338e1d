"""The tenant that a unit of work is for: the one that it names, else the one that ``scope()`` bound around it."""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import contextlib
import contextvars
import functools
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, TypeVar, cast

from db.errors import DOCUMENTATION, TenantError, claim
from db.settings import PREFIX
from db.timing.invocation import current_invocation, is_bound_here

from .blocks import NotABlockError, by_name, warn_of_unused
from .callables import WrongKindError, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

P = ParamSpec("P")
T = TypeVar("T")

TENANT_MAX_CHARS = 255
_BOUND = "tenant_bound"  # in what an invocation keeps: whether a scope was entered in it
_NOT_HERE = (
    "a tenant is bound in this invocation and not in this thread, which sees no scope of another's: start it with "
    f"db.carry(fn), or pass tenant= ({DOCUMENTATION}start/tenants/#threads-and-tasks)"
)
# Those that hold a generator for what comes after its yield: what it has bound is meant for the block around it.
_CONTEXT_MANAGERS = ("contextlib", "_pytest.")


class _Binding(contextlib.ContextDecorator):
    """A scope that has been entered. Unlike one that was not, it has no ``__del__``: see ``blocks``."""

    _is_awaited: ClassVar = False
    tenant: str
    outer: _Binding | None
    is_active: bool
    _generator: FrameType | None
    _entered_in: object

    def _recreate_cm(self) -> scope:
        self.__class__ = _Binding  # as a decorator, by its copies
        return scope(tenant=self.tenant)

    def __enter__(self) -> None:
        if self.is_active:
            raise RuntimeError("a scope is for one block at a time: make another")
        self.__class__ = _Binding
        self.outer, self.is_active = _innermost.get(), True
        self._generator = _generator_of(sys._getframe(1))  # noqa: SLF001 - there is no other way to it
        self._entered_in = _here() if self._generator is not None else None
        current_invocation().kept[_BOUND] = True
        _innermost.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_active, self._generator = False, None
        # Blocks may end in any order, as generators do: then this one is passed over when those within it have ended.
        # Copies of the context, which tasks have, go on with what they were given.
        if _innermost.get() is self:
            outer = self.outer
            while outer is not None and not outer.is_active:
                outer = outer.outer
            _innermost.set(outer)

    if not TYPE_CHECKING:  # to a type checker they are mistakes as they stand

        def __aenter__(self) -> NoReturn:
            raise NotABlockError("db.scope() gives a plain block, in async def as well: with db.scope(tenant=…)")

        def __aexit__(self, *_: object) -> NoReturn:
            self.__aenter__()

    def holds_here(self) -> bool:
        """Whether it is meant for who asks: not where a generator holds it that does not run."""
        if self._entered_in is None or self._entered_in != _here():
            return True
        return self._generator is not None and self._generator.f_back is not None


class scope(_Binding):  # noqa: N801 - read as a word: with db.scope(tenant=...)
    """Bind ``tenant`` for every ``begin``, ``read``, ``session`` and ``run`` in the block that names none itself.

    It holds for this context, and for the tasks that the block starts, as long as they run. A thread has to be carried
    along: ``db.carry``. In a generator it holds while that runs, not for whoever takes its values. Raises TenantError
    where the name is not usable.
    """

    @by_name("db.scope", places=1)
    def __init__(self, *, tenant: str) -> None:
        try:
            self.tenant = checked_tenant(tenant)
        except TenantError as error:
            claim(error, database=None, prefix=PREFIX)  # it is about none, whatever units are around
            raise
        self.outer = None
        self.is_active = False
        self._generator = None
        self._entered_in = None

    def __del__(self) -> None:
        if "tenant" in vars(self):  # it has been made: a name that is refused is said already
            warn_of_unused("db.scope()", "with db.scope(tenant=…)")


class _NoTenant(str):
    """A tenant's place, empty by intention: no scope reaches it, and none is asked for."""

    __slots__ = ()


# For what the layer does itself for all tenants at once.
NO_TENANT = _NoTenant()

_innermost: contextvars.ContextVar[_Binding | None] = contextvars.ContextVar("db_tenant", default=None)


def _generator_of(frame: FrameType) -> FrameType | None:
    """``frame`` where it is a generator's that others take values from."""
    if not frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return None
    caller = frame.f_back
    name = "" if caller is None else str(caller.f_globals.get("__name__"))
    return None if name.startswith(_CONTEXT_MANAGERS) else frame


def _here() -> object:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task)


def _bound() -> str | None:
    binding = _innermost.get()
    while binding is not None and not binding.holds_here():
        binding = binding.outer
    return None if binding is None else binding.tenant


@contextlib.contextmanager
def no_scope() -> Iterator[None]:
    """Without the scopes of this context for the length of the block: they are another's, by whom it was begun."""
    token = _innermost.set(None)
    try:
        yield
    finally:
        _innermost.reset(token)


def carry(fn: Callable[P, T]) -> Callable[P, T]:
    """``fn``, to be called in another thread with the tenant and the invocation of this one.

    Python gives a new thread neither: ``ThreadPoolExecutor().submit(db.carry(work), order)``. Tasks of asyncio have
    them anyway. A unit of work in a thread without them raises TenantError where this invocation has bound a tenant.
    ``fn`` may be a coroutine function, which is then one to await, on any loop. Raises TypeError for what is no
    function, and for a generator function: what runs of it, runs later.
    """
    given: Any = fn
    if not callable(given):
        called = ", not db.carry(fn(…))" if inspect.isawaitable(given) else ""
        raise WrongKindError(
            f"db.carry takes a function, to be called later: db.carry(fn){called}; it was given {type(given).__name__}"
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise WrongKindError(f"{named(fn)} is a generator function, which db.carry cannot carry: let it return a list")
    context = contextvars.copy_context()
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):

        @functools.wraps(fn)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            # A task is what runs in a context of its own; one that is cancelled here is cancelled there.
            work: Any = fn(*args, **kwargs)
            return await asyncio.get_running_loop().create_task(work, context=context.copy())

        return cast("Callable[P, T]", awaited)

    @functools.wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        # A copy for each call: several threads may be in one at a time.
        result = context.copy().run(fn, *args, **kwargs)
        if inspect.iscoroutine(result):
            result.close()  # it would be warned of
            raise WrongKindError(f"{named(fn)} has to be awaited: give db.carry the coroutine function itself")
        return result

    return carried


def tenant_for(tenant: str | None, *, required: bool) -> str | None:
    """The tenant of a unit of work: the one it names, else the bound one. Raises TenantError."""
    if tenant is NO_TENANT:
        return None
    if type(tenant) is str:
        return _known(tenant)
    chosen = checked_tenant(tenant) if tenant is not None else _bound()
    if chosen is None:
        if required:
            raise TenantError("DB_TENANT_REQUIRED is set and no tenant is: pass tenant=, or bind one with db.scope()")
        if not is_bound_here() and current_invocation().kept.get(_BOUND):
            raise TenantError(_NOT_HERE)
    return chosen


def checked_tenant(tenant: str) -> str:
    """``tenant`` if PostgreSQL can hold it as a setting's value. It travels as a parameter, so quotes mean nothing."""
    if not isinstance(tenant, str):
        raise TenantError(f"a tenant is a string, not {type(tenant).__name__}")
    if not tenant.strip() or "\x00" in tenant or len(tenant) > TENANT_MAX_CHARS:
        raise TenantError(f"a tenant is 1 to {TENANT_MAX_CHARS} characters, not all of them blank, none of them NUL")
    if not tenant.isprintable() and any("\ud800" <= char <= "\udfff" for char in tenant):
        raise TenantError("a tenant holds no lone surrogates: they cannot be sent as UTF-8")
    return tenant


# An environment serves few tenants at a time, each of them often.
_known = functools.lru_cache(maxsize=64)(checked_tenant)
