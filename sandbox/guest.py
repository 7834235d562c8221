"""The runtime of guest code in one worker: guards and builtins over one meter, reset for each call.

Asked by the executor. Built once per worker, because building guards costs more
than most calls; `reset` gives the next call its budget, seed and clock. State of a
call lives in the namespaces, which are made fresh, and in the streams.

    runtime = GuestRuntime(import_hook=modules.find)
    runtime.reset(seed=call.seed, now_ms=call.now_ms, fuel=call.fuel, log=lines.append)
    namespace = runtime.namespace("posts")
    runtime.run(compiled, namespace)              # the module's body
    value = runtime.call(namespace["like"], ctx, post_id=...)

What leaves a guest function, `Terminated` or an ordinary exception, goes through
to the caller. `Terminated` is sticky: after it, nothing metered runs until `reset`,
and `ended` says so even when the guest swallowed it somewhere.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from sandbox import policy
from sandbox.builtins import Builtins, guest_builtins
from sandbox.classes import GuestType, make_class, super_method
from sandbox.compiler import CompiledModule
from sandbox.determinism import SEED_BYTES, Chance
from sandbox.facades.registry import BUILDERS
from sandbox.faces import base_of, real
from sandbox.faults import Terminated
from sandbox.guards import structure_guards
from sandbox.host import HostObject, named, touching
from sandbox.lazy import Lazies
from sandbox.meter import DEPTH_DEFAULT, FUEL_DEFAULT, Meter
from sandbox.methods import Methods
from sandbox.operators import operator_guards
from sandbox.sets import FrozenSet, Set, SetMaker
from sandbox.structure import Structure
from sandbox.text import Texts

INT_DIGITS_MAX: Final = 5_000  # an integer of INTEGER_BITS_MAX bits has 4,933 decimal digits
RECURSION_LIMIT: Final = 2_000  # room for DEPTH_DEFAULT guest calls with the host's frames between them

ImportHook = Callable[[str], Any]
Log = Callable[[str], None]


def prepare_process() -> None:
    """Settings of the interpreter that guest code can observe. Once per process, before any guest."""
    sys.set_int_max_str_digits(INT_DIGITS_MAX)
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.unraisablehook = _silent  # what a guest's iterators raise when they are freed is nobody's business


class GuestModule(HostObject):
    """An imported user module: shows the public names of its namespace, read only."""

    __slots__ = ("_names", "_title")

    def __init__(self, title: str, names: dict[str, Any]) -> None:
        self._title = title
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            try:
                return self._names[name]
            except KeyError:
                pass
        raise AttributeError(f"module '{self._title}' has no attribute '{name}'")

    def _repr_(self) -> str:
        return f"<module '{self._title}'>"


class GuestRuntime:
    """See the module's text.

    Args:
      import_hook: given a dotted module name, returns the object that `import`
        binds (a `GuestModule`, a facade, any `HostObject`), or None for "not one of
        ours", upon which the facade of that name is taken. It may raise ImportError.
      extra_bases: host exceptions that tenant classes may derive from (`AppError`).
    """

    def __init__(
        self,
        *,
        import_hook: ImportHook | None = None,
        fuel: int = FUEL_DEFAULT,
        depth: int = DEPTH_DEFAULT,
        seed: bytes = bytes(SEED_BYTES),
        now_ms: float = 0,
        log: Log | None = None,
        extra_bases: tuple[type[Exception], ...] = (),
    ) -> None:
        self.meter = Meter(fuel, depth=depth)
        self.chance = Chance(seed)
        self.now_ms = now_ms
        self.observed: set[str] = set()  # of "time", "random": what the call has looked at
        self._log: Log = log or _discard
        self._import_hook = import_hook
        structure = Structure(self.meter)
        sets = SetMaker(self.meter, structure)
        methods = Methods(self.meter, structure)
        self.texts = Texts(self.meter)
        self.structure = structure
        self.sets = sets
        self.methods = methods
        self.lazies = Lazies(self.meter)
        host = Builtins(self.meter, structure, methods, sets, self.texts, self._print)
        names = guest_builtins(host, methods, sets)
        self.builtins = MappingProxyType(names)
        bases = frozenset(names[name] for name in policy.BUILTIN_EXCEPTIONS) | frozenset(extra_bases)
        operators = operator_guards(self.meter, sets)
        self.add, self.multiply = operators["_add_"], operators["_mul_"]
        self._namespace: dict[str, Any] = {
            **names,
            **structure_guards(self.meter, structure),
            **operators,
            "_getattr_": methods.load,
            "_set_": sets.make,
            "_generator_": self.lazies.generator,
            "_counted_": self.lazies.counted,
            "_type_": type,
            "_len_": len,
            "_range_": range,
            "_int_": int,
            "_float_": float,
            "_str_": str,
            "_dict_": dict,
            "_list_": list,
            "_tuple_": tuple,
            "_mutable_": GuestType,
            "_format_": self.texts.field,
            "_text_": self.texts.limit,
            "_import_": self._import,
            "_class_": make_class(bases, base_of, self.meter.charge),
            "_super_": super_method,
            "_named_": named,
            "_touching_": touching,
            "_Exception_": Exception,
            "__build_class__": __build_class__,
            **{f"_{name}_type_": kind for name, kind in _PATTERN_TYPES.items()},
            **{f"_make_{name}_": names[name]._make for name in policy.MAKERS},
        }
        self._facades: dict[str, Any] = {}
        self.forgets: list[Callable[[], object]] = []  # what the modules below facades keep over calls

    # ---- the life of a call ------------------------------------------------------

    def reset(self, *, seed: bytes, now_ms: float, fuel: int = FUEL_DEFAULT, log: Log | None = None) -> None:
        """Begin a call. Nothing of an earlier call is visible after it."""
        self.chance = Chance(seed)
        self.now_ms = now_ms
        self.observed = set()
        self._log = log or _discard
        self.structure.reset(seed)
        for forget in self.forgets:
            forget()
        self.meter.reset(fuel)

    def close(self) -> None:
        """End a call: whatever of it is still suspended finds no step left, and garbage is collected."""
        self.meter.reset(1)
        gc.collect()

    def namespace(self, module: str) -> dict[str, Any]:
        """Return fresh globals for one module."""
        return {"__builtins__": self._namespace, "__name__": module}

    def run(self, compiled: CompiledModule, namespace: dict[str, Any]) -> None:
        """Execute the body of a module in its namespace."""
        self._guarded(exec, compiled.code, namespace)  # the one place where guest code starts

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Enter a guest function."""
        return self._guarded(function, *args, **kwargs)

    def _guarded(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        level = len(self.meter.frames)
        try:
            result = function(*args, **kwargs)
        except RecursionError:
            self.meter.end("depth")
        except MemoryError:
            self.meter.end("memory")
        except BaseException as error:
            if self.meter.dead is not None and type(error) is not Terminated:
                self.meter.end(self.meter.dead.kind)  # the guest covered it with an exception of his own
            raise
        finally:
            missing = level - len(self.meter.frames)
            if missing > 0:
                self.meter.frames.extend([self.meter.units] * missing)
        if self.meter.dead is not None:
            raise Terminated(self.meter.dead.kind, self.meter.dead.message)
        return result

    def annotations(self, compiled: CompiledModule, namespace: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Evaluate the analysis form of a module after its body has run. See `compiler`."""
        if compiled.annotations is None:
            return {}
        scope = dict(namespace)
        self._guarded(exec, compiled.annotations, scope)
        table = scope["_annotations_"]
        return {
            name: {key: self._guarded(real, value) for key, value in rows.items()}
            for name, rows in table.items()
        }

    @contextmanager
    def nested(self) -> Iterator[None]:
        """A nested call: its own streams, derived from this call's; the same clock, meter and depth."""
        outer = self.chance
        self.chance = outer.nested()
        try:
            yield
        finally:
            self.chance = outer

    # ---- what the outcome tells --------------------------------------------------

    @property
    def steps_used(self) -> int:
        return self.meter.used

    @property
    def ended(self) -> Terminated | None:
        """What ended the call, if a budget did."""
        return self.meter.dead

    def profile(self) -> list[tuple[str, int, int]]:
        """Return (file, line, steps), the costliest first."""
        return self.meter.profile()

    # ---- what guests reach through builtins --------------------------------------

    def _print(self, text: str) -> None:
        self._log(text)

    def facade(self, name: str) -> Any:
        """Return the facade of a standard module, or None."""
        if name not in policy.FACADES:
            return None
        if name not in self._facades:
            self._facades[name] = BUILDERS[name](self)
        return self._facades[name]

    def _import(self, module: str, name: str | None) -> Any:
        found = self._import_hook(module) if self._import_hook is not None else None
        if found is None:
            found = self.facade(module)
        if found is None:
            raise ImportError(policy.module_problem(module))
        if name is None:
            return found
        try:
            return getattr(found, name)
        except AttributeError:
            inner = self._import_hook(f"{module}.{name}") if self._import_hook is not None else None
            inner = inner if inner is not None else self.facade(f"{module}.{name}")
            if inner is not None:
                return inner
            if module in policy.FACADES:
                raise ImportError(
                    f"{module}.{name} is not available in functions, because only listed members are; "
                    f"use one of {', '.join(sorted(dir(found)))}"
                ) from None
            hint = getattr(type(found), "_hint_", "")
            raise ImportError(f"cannot import name '{name}' from '{module}'{hint}") from None


_PATTERN_TYPES: Final = {
    "bool": bool,
    "bytes": bytes,
    "dict": dict,
    "float": float,
    "frozenset": FrozenSet,
    "int": int,
    "list": list,
    "set": Set,
    "str": str,
    "tuple": tuple,
}


def _silent(_unraisable: object) -> None:
    """An error in clean-up, which has nowhere to go."""


def _discard(text: str) -> None:
    """A call without a log."""
