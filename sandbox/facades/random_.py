"""`random`: draws from the call's `user` stream. The same numbers as `ctx.random`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from sandbox import policy
from sandbox.determinism import Stream
from sandbox.facades.base import Facade, integer, number, too_many
from sandbox.host import HostObject
from sandbox.policy import words

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_METHODS: Final = words(
    "choice choices expovariate gauss getrandbits randbytes randint random randrange sample shuffle uniform"
)


_DRAW_BITS: Final = 256  # drawn per step


def _draws(span: int) -> int:
    return span.bit_length() // _DRAW_BITS + 1


class Random(HostObject):
    """The `user` stream of whatever call is running."""

    __slots__ = ("_runtime",)
    _exposed_ = frozenset((*_METHODS, "token_hex", "uuid4"))

    def __init__(self, runtime: GuestRuntime) -> None:
        self._runtime = runtime

    def _stream(self, draws: int = 1) -> Stream:
        self._runtime.meter.charge(draws)
        self._runtime.observed.add("random")
        return self._runtime.chance.user

    def random(self) -> float:
        return self._stream().random()

    def randint(self, a: Any, b: Any) -> int:
        low, high = integer(a, "a"), integer(b, "b")
        return self._stream(_draws(high - low)).randint(low, high)

    def randrange(self, start: Any, stop: Any = None, step: Any = 1) -> int:
        first, end = integer(start, "start"), None if stop is None else integer(stop, "stop")
        draws = _draws(first if end is None else end - first)
        return self._stream(draws).randrange(first, end, integer(step, "step"))

    def uniform(self, a: Any, b: Any) -> float:
        return self._stream().uniform(number(a), number(b))

    def gauss(self, mu: Any = 0.0, sigma: Any = 1.0) -> float:
        return self._stream().gauss(number(mu), number(sigma))

    def expovariate(self, lambd: Any = 1.0) -> float:
        rate = number(lambd)
        return -math.log(1.0 - self._stream().random()) / float(rate)

    def getrandbits(self, k: Any) -> int:
        count = integer(k, "k", low=0, high=policy.INTEGER_BITS_MAX)
        return self._stream(count // _DRAW_BITS + 1).bits(count)

    def randbytes(self, n: Any) -> bytes:
        count = integer(n, "n", low=0, high=policy.TEXT_LENGTH_MAX)
        return self._stream(count // 32 + 1).bytes(count)

    def token_hex(self, n: Any = 32) -> str:
        count = integer(n, "n", low=0, high=policy.TEXT_LENGTH_MAX // 2)
        return self._stream(count // 32 + 1).token_hex(count)

    def uuid4(self) -> str:
        return self._stream().uuid4()

    def choice(self, seq: Any) -> Any:
        return self._stream().choice(self._sequence(seq))

    def choices(self, population: Any, weights: Any = None, *, k: Any = 1) -> list[Any]:
        count = integer(k, "k", low=0, high=policy.ITEMS_MAX)
        weighted = None if weights is None else [number(weight) for weight in self._sequence(weights)]
        draws = count + len(weighted or ())
        return self._stream(draws).choices(self._sequence(population), weighted, count)

    def sample(self, population: Any, k: Any) -> list[Any]:
        items = self._sequence(population)
        count = integer(k, "k", low=0, high=policy.ITEMS_MAX)
        return self._stream(count).sample(items, count)

    def shuffle(self, x: Any) -> None:
        if type(x) is not list:
            raise TypeError("shuffle takes a list")
        self._stream(len(x)).shuffle(x)

    def _sequence(self, items: Any) -> Any:
        if type(items) is str or type(items) is range:
            if len(items) > policy.ITEMS_MAX and type(items) is str:
                raise too_many()
            return items
        return self._runtime.structure.listed(items)


def build(runtime: GuestRuntime) -> Facade:
    stream = Random(runtime)
    return Facade("random", {name: getattr(stream, name) for name in _METHODS})
