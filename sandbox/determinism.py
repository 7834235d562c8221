"""Chance, repeatable: streams of random numbers derived from the seed of a call.

A stream is `BLAKE2b(key=seed, person=label)` over a counter: what it gives is
fixed by this file and the hash function, not by the Python version. Streams of
different labels are independent, so an additional `random()` changes no ids and
an additional insert changes no draws:

* `user`: what the function draws through `ctx.random`, `random` and `uuid`;
* `ids`: internal ids of inserted documents;
* `call:<n>`: not drawn from; it is the seed of the n-th nested call.

`VERSION` is part of every record. A change of any method's draws is a new version.
Not for secrets: whoever knows the record knows the numbers.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final, Protocol

from sandbox import policy

VERSION: Final = 1
SEED_BYTES: Final = 32
_BLOCK_BYTES: Final = 64
_UNIT: Final = 2.0**-53


class Sized(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def derive(seed: bytes, label: str) -> bytes:
    """Return the seed of the stream `label`."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed of {len(seed)} bytes")
    return hashlib.blake2b(
        label.encode(), key=seed, digest_size=SEED_BYTES, person=b"tidewell-stream"
    ).digest()


class Stream:
    """One stream of draws. Every method consumes a number of bits fixed by its arguments and draws."""

    __slots__ = ("_buffer", "_counter", "_key", "_pair")

    def __init__(self, seed: bytes, label: str) -> None:
        self._key = derive(seed, label)
        self._counter = 0
        self._buffer = b""
        self._pair: float | None = None

    def bytes(self, count: int) -> bytes:
        blocks = [self._buffer]
        held = len(self._buffer)
        while held < count:
            block = hashlib.blake2b(
                self._counter.to_bytes(8, "big"),
                key=self._key,
                digest_size=_BLOCK_BYTES,
                person=b"tidewell-block",
            )
            self._counter += 1
            blocks.append(block.digest())
            held += _BLOCK_BYTES
        drawn = b"".join(blocks)
        self._buffer = drawn[count:]
        return drawn[:count]

    def bits(self, count: int) -> int:
        if count <= 0:
            return 0
        size = (count + 7) // 8
        return int.from_bytes(self.bytes(size), "big") >> (size * 8 - count)

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit), every one equally likely."""
        if limit <= 0:
            raise ValueError("an empty range to choose from")
        width = limit.bit_length()
        while True:
            drawn = self.bits(width)
            if drawn < limit:
                return drawn

    def random(self) -> float:
        return (int.from_bytes(self.bytes(7), "big") >> 3) * _UNIT

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        if stop is None:
            start, stop = 0, start
        count = len(range(start, stop, step))
        if not count:
            raise ValueError(f"empty range in randrange({start}, {stop}, {step})")
        return start + step * self.below(count)

    def randint(self, low: int, high: int) -> int:
        if high < low:
            raise ValueError(f"empty range in randint({low}, {high})")
        return low + self.below(high - low + 1)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def choice(self, items: Sized) -> Any:
        if not len(items):
            raise IndexError("cannot choose from an empty sequence")
        return items[self.below(len(items))]

    def choices(self, items: Sized, weights: list[float] | None, count: int) -> list[Any]:
        if not len(items):
            raise IndexError("cannot choose from an empty sequence")
        if weights is None:
            return [items[self.below(len(items))] for _ in range(count)]
        if len(weights) != len(items):
            raise ValueError("the number of weights does not match the population")
        sums: list[float] = []
        total = 0.0
        for weight in weights:
            total += weight
            sums.append(total)
        if not total > 0.0 or not math.isfinite(total) or min(weights) < 0:
            raise ValueError("weights must be finite and not negative, and one must be positive")
        return [items[self._bisect(sums, self.random() * total)] for _ in range(count)]

    @staticmethod
    def _bisect(sums: list[float], point: float) -> int:
        low, high = 0, len(sums) - 1
        while low < high:
            middle = (low + high) // 2
            if point < sums[middle]:
                high = middle
            else:
                low = middle + 1
        return low

    def shuffle(self, items: list[Any]) -> None:
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]

    def sample(self, items: Sized, count: int) -> list[Any]:
        """A shuffle of the first `count` places, remembering only what was moved: ranges may be endless."""
        size = len(items)
        if not 0 <= count <= size:
            raise ValueError("sample larger than population or is negative")
        moved: dict[int, int] = {}
        taken = []
        for i in range(count):
            j = i + self.below(size - i)
            taken.append(items[moved.get(j, j)])
            moved[j] = moved.get(i, i)
        return taken

    def gauss(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """The polar method: only a square root and a logarithm."""
        pair, self._pair = self._pair, None
        if pair is None:
            while True:
                u, v = 2 * self.random() - 1, 2 * self.random() - 1
                square = u * u + v * v
                if 0 < square < 1:
                    break
            factor = math.sqrt(-2 * math.log(square) / square)
            pair, self._pair = u * factor, v * factor
        return mean + deviation * pair

    def token_hex(self, count: int = 32) -> str:
        if not 0 <= count <= policy.TEXT_LENGTH_MAX // 2:
            raise ValueError("token_hex: too many bytes")
        return self.bytes(count).hex()

    def uuid4(self) -> str:
        number = self.bits(128)
        number = number & ~(0xF << 76) | (4 << 76)
        number = number & ~(0x3 << 62) | (2 << 62)
        digits = f"{number:032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Chance:
    """The streams of one execution; nested executions get a `Chance` of their own."""

    __slots__ = ("_calls", "_seed", "ids", "user")

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._calls = 0
        self.user = Stream(seed, "user")
        self.ids = Stream(seed, "ids")

    def nested(self) -> Chance:
        """Return the streams of the next nested call."""
        number = self._calls
        self._calls += 1
        return Chance(derive(self._seed, f"call:{number}"))
