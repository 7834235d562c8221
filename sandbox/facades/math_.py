"""`math`: the functions on floats as they are, those on integers with caps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs, policy
from sandbox.facades.base import Facade, integer, number
from sandbox.operators import whole
from sandbox.policy import words

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_FLOAT: Final = words(
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh degrees erf erfc exp exp2 "
    "expm1 fabs floor "
    "fmod frexp gamma isclose isfinite isinf isnan ldexp lgamma log10 log1p log2 modf "
    "pow radians "
    "remainder sin sinh sqrt tan tanh trunc ulp"
)
_CONSTANTS: Final = ("e", "inf", "nan", "pi", "tau")
_FACTORIAL_MAX: Final = 2_000
_COMBINATIONS_MAX: Final = 10_000


def _quadratic(value: int) -> int:
    """Steps for division by the digits of `value`, again and again."""
    return 8 + (value.bit_length() // costs.INTEGER_BITS) ** 2


def build(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge
    structure = runtime.structure
    multiply = runtime.multiply

    def numbers(items: Any) -> list[Any]:
        listed = structure.listed(items)
        charge(len(listed))
        for item in listed:
            number(item, "every item")
        return list(listed)

    def factorial(n: Any) -> int:
        value = integer(n, "n", low=0, high=_FACTORIAL_MAX)
        charge(value)
        return whole(math.factorial(value))

    def comb(n: Any, k: Any) -> int:
        charge(integer(k, "k", low=0, high=_COMBINATIONS_MAX))
        return whole(math.comb(integer(n, "n", low=0, high=_COMBINATIONS_MAX), k))

    def perm(n: Any, k: Any = None) -> int:
        if k is None:
            return factorial(n)
        charge(integer(k, "k", low=0, high=_FACTORIAL_MAX))
        return whole(math.perm(integer(n, "n", low=0, high=_COMBINATIONS_MAX), k))

    def gcd(*values: Any) -> int:
        for value in values:
            charge(_quadratic(integer(value)))
        return math.gcd(*values)

    def lcm(*values: Any) -> int:
        result = 1
        for value in values:
            value = integer(value)
            charge(_quadratic(value) + _quadratic(result))
            result = abs(multiply(result, value)) // math.gcd(result, value) if value else 0
            if not result:
                return 0
        return result

    def isqrt(n: Any) -> int:
        charge(_quadratic(integer(n, "n", low=0)))
        return math.isqrt(n)

    def fsum(items: Any) -> float:
        values = numbers(items)
        charge(len(values))
        return math.fsum(values)

    def log(*args: Any) -> float:
        if not 1 <= len(args) <= 2:
            raise TypeError("log() takes a number and a base")
        return math.log(*map(number, args))

    def nextafter(x: Any, y: Any) -> float:
        return math.nextafter(number(x), number(y))

    def prod(items: Any, *, start: Any = 1) -> Any:
        for item in numbers(items):
            start = multiply(start, item)
        return start

    def hypot(*values: Any) -> float:
        return math.hypot(*numbers(values))

    def dist(p: Any, q: Any) -> float:
        return math.dist(numbers(p), numbers(q))

    own: dict[str, Callable[..., Any]] = {
        "comb": comb, "dist": dist, "factorial": factorial, "fsum": fsum, "gcd": gcd, "hypot": hypot,
        "isqrt": isqrt, "lcm": lcm, "log": log, "nextafter": nextafter, "perm": perm, "prod": prod,
    }  # fmt: skip
    members: dict[str, Any] = {name: getattr(math, name) for name in (*_FLOAT, *_CONSTANTS)}
    assert policy.INTEGER_BITS_MAX <= 2**14, "ceil and floor of floats stay below the cap"
    return Facade("math", {**members, **own})
