"""The meter: how many steps a call has left, counted by C iterators.

Nothing here runs per step. The budget is one C-level chain of blocks, tuples of True;
a step is one item pulled from it. Loops pull through `itertools.compress`, which
takes an item and a step together; `while` iterates over the chain itself; a
function's first act is a loop over the chain that is left at once, which costs less
than any call. Python code runs once per block, which is also when the line being
executed is noted for the profile.

How deep calls nest is counted by a list that holds the chain once per call that is
still allowed: a call pops it, pulls its step from what it got, and appends it again
when it is left. At the bottom lies what raises.

What is left is the length hint of the block in use plus the blocks to come, and
a bulk charge moves the position in that block: both are O(1).

Invariants:

* a budget of B allows B - 1 steps; the B-th raises. So the smallest budget that
  suffices for a call is the steps it uses plus one;
* once `Terminated` has been raised every later pull raises it again, until
  `reset`. A guest that gets control back can do nothing that is metered.

Roads not taken: tracing and monitoring hooks cost 2 to 10 times and differ
between versions; a Python counter per iteration costs 4 times. One block as
large as the budget (the reference design) costs its size in memory per worker.
Blocks of bytes make a number of each, whose truth `compress` then asks its class for:
a quarter more for each step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, compress
from typing import Any, Final, NoReturn

from sandbox.faults import Terminated, TerminationKind

COST_VERSION: Final = 3
FUEL_DEFAULT: Final = 10_000_000
DEPTH_DEFAULT: Final = 200
BLOCK_STEPS: Final = (
    16_384  # 610 samples for the profile in a default budget, and Python code once in 16,384 steps
)
_BLOCK: Final = (True,) * BLOCK_STEPS  # one for all meters, and shared by the workers of a zygote

_MESSAGES: Final[dict[TerminationKind, str]] = {
    "fuel": "the function used all of its {budget:,} steps",
    "depth": "calls are nested deeper than {depth}",
    "memory": "the function ran out of memory",
}


class Items(compress):  # type: ignore[type-arg]  # not generic at run time
    """Items, each with a step. A class of our own, because the interpreter frees towers of those piecemeal;
    towers of its own iterators it frees by recursion, and crashes."""

    __slots__ = ()


class _Spent:
    """What the chain yields from when nothing is left: raises on every pull, until released."""

    __slots__ = ("_meter", "released")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.released = False

    def __iter__(self) -> _Spent:
        return self

    def __next__(self) -> bool:
        if self.released:
            raise StopIteration
        self._meter.exhausted()


class _TooDeep:
    """What a call finds below all the calls that are allowed: pulling a step from it ends the call."""

    __slots__ = ("_meter",)

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __iter__(self) -> _TooDeep:
        return self

    def __next__(self) -> bool:
        self._meter.too_deep()

    def __bool__(self) -> bool:
        """What a generator asks that comes back: it takes a place and no step."""
        self._meter.too_deep()


class Meter:
    """One per worker, reset for each call. The bound C callables stay valid over resets."""

    def __init__(
        self, fuel: int = FUEL_DEFAULT, *, depth: int = DEPTH_DEFAULT, block_steps: int = BLOCK_STEPS
    ) -> None:
        self.budget = fuel
        self.depth = depth
        self.dead: Terminated | None = None
        self._used_at_death = 0
        self._block = _BLOCK[:block_steps]
        self._block_steps = len(self._block)
        self._blocks_left = 0  # steps in blocks that the chain has not fetched yet
        self._active: Any = iter(())
        self._spent = _Spent(self)
        self._sampled_at = 0
        self._samples: dict[tuple[str, int], int] = {}
        self._source = self._blocks()
        self.units: Iterator[bool] = chain.from_iterable(self._source)
        self.step: Callable[[], bool] = self.units.__next__
        self.items: Callable[[Any], Iterator[Any]] = partial(Items, selectors=self.units)
        self.frames: list[Iterator[bool]] = []
        self.enter = self.frames.pop  # `next(enter())`: a step, or the end when calls are nested too deeply
        self._bottom = _TooDeep(self)
        self.reset(fuel)

    def _blocks(self) -> Iterator[Iterator[bool]]:
        """Yield the next block, or what raises. Runs once per block."""
        while True:
            if self._blocks_left <= 0:
                self._spent.released = False
                yield self._spent
            else:
                self._sample()
                steps = min(self._blocks_left, self._block_steps)
                self._blocks_left -= steps
                self._active = iter(self._block)
                self._active.__setstate__(self._block_steps - steps)
                yield self._active

    def reset(self, fuel: int | None = None) -> None:
        """Begin a call with a full budget, whatever state the last one left."""
        if fuel is not None:
            if fuel < 1:
                raise ValueError(f"a budget of {fuel} steps")
            self.budget = fuel
        self.dead = None
        self._spent.released = True
        self._blocks_left = 2
        if not self._active.__length_hint__():
            self.step()  # leaves `_spent` or a finished block behind
        self._set_left(self.budget - 1)
        self.frames[:] = [self._bottom, *[self.units] * self.depth]
        self._sampled_at = 0
        self._samples = {}

    def _set_left(self, steps: int) -> None:
        here = min(steps, self._block_steps)
        self._active.__setstate__(self._block_steps - here)
        self._blocks_left = steps - here

    @property
    def left(self) -> int:
        if self.dead is not None:
            return 0
        return int(self._active.__length_hint__()) + self._blocks_left

    @property
    def used(self) -> int:
        """Steps used; the whole budget once a budget was exceeded."""
        if self.dead is not None:
            return self._used_at_death
        return self.budget - 1 - int(self._active.__length_hint__()) - self._blocks_left

    def charge(self, steps: int) -> None:
        """Take `steps` at once. Raises `Terminated` if fewer are left."""
        here = self._active.__length_hint__()
        if 0 <= steps <= here and self.dead is None:
            self._active.__setstate__(self._block_steps - here + steps)
            return
        assert steps >= 0, f"a charge of {steps} steps would give steps back"
        left = self.left
        if steps > left:
            self.exhausted()
        self._set_left(left - steps)
        self._sample()

    def exhausted(self) -> NoReturn:
        self.end("fuel")

    def too_deep(self) -> NoReturn:
        self.frames.append(self._bottom)
        self.end("depth")

    def end(self, kind: TerminationKind) -> NoReturn:
        """End the call for good: this `Terminated` is raised now and at every later pull."""
        if self.dead is None:
            self._sample()
            text = _MESSAGES[kind].format(budget=self.budget, depth=self.depth)
            self._used_at_death = self.budget if kind == "fuel" else self.used
            self._set_left(0)
            self.dead = Terminated(kind, text)
        raise Terminated(self.dead.kind, self.dead.message)

    def counted(self, function: Callable[[], Any]) -> Any:
        """Call a guest's function on behalf of an operator: functions made of operators alone take no
        place in the count of nested calls, so the host takes it for them.
        """
        if self.frames.pop() is self._bottom:
            self.too_deep()
        try:
            return function()
        finally:
            self.frames.append(self.units)

    # ---- the profile by line -----------------------------------------------------

    def _sample(self) -> None:
        """Book the steps since the last sample on the guest line that is running."""
        used = self.used
        steps, self._sampled_at = used - self._sampled_at, used
        frame = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith("<guest>/"):
            frame = frame.f_back  # type: ignore[assignment]  # None at the outermost frame
        if frame is not None and steps > 0:
            place = (frame.f_code.co_filename.removeprefix("<guest>/"), frame.f_lineno)
            self._samples[place] = self._samples.get(place, 0) + steps

    def profile(self) -> list[tuple[str, int, int]]:
        """Return (file, line, steps), the costliest first. Whole blocks are booked on one line, so the
        result is a sample, though the same sample every time."""
        rows = [(file, line, steps) for (file, line), steps in self._samples.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))
