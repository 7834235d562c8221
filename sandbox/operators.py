"""Arithmetic guards: size is checked and charged before memory is taken.

Each guard takes the common case (small numbers) first. An `int` stays within
`INTEGER_BITS_MAX`, text within `TEXT_LENGTH_MAX`, containers within `ITEMS_MAX`;
passing one is an ordinary error that a guest may catch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox import costs, policy
from sandbox.meter import Meter
from sandbox.sets import VIEWS, FrozenSet, Set, SetMaker

_INT_BOUND: Final = 1 << policy.INTEGER_BITS_MAX
_TEXT: Final = (str, bytes)
_ITEMS: Final = (list, tuple)


def too_big() -> OverflowError:
    return OverflowError(f"an integer of more than {policy.INTEGER_BITS_MAX} bits")


def too_long(what: str, limit: int) -> ValueError:
    return ValueError(
        f"a {what} of more than {limit} {'items' if what in ('list', 'tuple') else 'characters'}"
    )


def whole(number: int) -> int:
    if -_INT_BOUND < number < _INT_BOUND:
        return number
    raise too_big()


def bounded_ends(*ends: Any) -> None:
    """Refuse the ends of a range whose items would be found by products and quotients of long numbers."""
    for end in ends:
        if isinstance(end, int) and end.bit_length() > costs.RANGE_BITS:
            raise OverflowError(f"a range over integers of more than {costs.RANGE_BITS} bits")


def operator_guards(meter: Meter, sets: SetMaker) -> dict[str, Callable[..., Any]]:
    """Return the guards by their injected names."""
    charge = meter.charge

    def made(kind: type, size: int) -> None:
        """Charge for a new sequence."""
        if kind in _TEXT:
            if size > policy.TEXT_LENGTH_MAX:
                raise too_long(kind.__name__, policy.TEXT_LENGTH_MAX)
            charge(size // costs.COPY_BYTES)
        else:
            if size > policy.ITEMS_MAX:
                raise too_long(kind.__name__, policy.ITEMS_MAX)
            charge(size // costs.COPY_ITEMS)

    def repeated(a: Any, times: int) -> None:
        if times > 0:
            made(type(a), len(a) * times)

    def add(a: Any, b: Any) -> Any:
        kind = type(a)
        if kind is int or kind is float:
            result = a + b
            return whole(result) if type(result) is int else result
        if (kind in _TEXT or kind in _ITEMS) and type(b) is kind:
            made(kind, len(a) + len(b))
        return a + b

    def iadd(a: Any, b: Any) -> Any:
        if type(a) is list:
            if type(b) is list or type(b) is tuple:
                made(list, len(a) + len(b))
                a += b
            else:
                for item in meter.items(b):
                    a.append(item)
                if len(a) > policy.ITEMS_MAX:
                    raise too_long("list", policy.ITEMS_MAX)
            return a
        if type(a) in (int, float, str, bytes, tuple):
            return add(a, b)
        a += b
        return a

    def sub(a: Any, b: Any) -> Any:
        if type(a) in VIEWS:
            return sets.make(a) - (b if type(b) in (Set, FrozenSet) else sets.make(b))
        result = a - b
        return whole(result) if type(result) is int else result

    def isub(a: Any, b: Any) -> Any:
        if type(a) is Set:
            a -= b
            return a
        return sub(a, b)

    def mul(a: Any, b: Any) -> Any:
        left, right = type(a), type(b)
        if left is float or right is float:
            return a * b
        if isinstance(a, int) and isinstance(b, int):
            charge(costs.product_steps(a.bit_length(), b.bit_length()))
            if a.bit_length() + b.bit_length() > policy.INTEGER_BITS_MAX + 1:
                raise too_big()
            return whole(a * b)
        if left in _TEXT or left in _ITEMS:
            if isinstance(b, int):
                repeated(a, b)
        elif (right in _TEXT or right in _ITEMS) and isinstance(a, int):
            repeated(b, a)
        return a * b

    def imul(a: Any, b: Any) -> Any:
        if type(a) is list and isinstance(b, int):
            repeated(a, b)
            a *= b
            return a
        return mul(a, b)

    def mod(a: Any, b: Any) -> Any:
        if type(a) in _TEXT:
            raise TypeError(policy.CONSTRUCTS["% on text"].text("% on text"))
        divided(a, b)
        return a % b

    def divided(a: Any, b: Any) -> None:
        """Charge for a division by the digits of `b`."""
        if isinstance(a, int) and isinstance(b, int):
            charge(costs.product_steps(a.bit_length() - b.bit_length(), b.bit_length()))

    def floordiv(a: Any, b: Any) -> Any:
        divided(a, b)
        return a // b

    def truediv(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            charge(min(a.bit_length(), b.bit_length()) // costs.INTEGER_BITS)
        return a / b

    def power(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            if b > 0:
                bits = (abs(a).bit_length() - 1) * b  # at least; at most as many again, for a moment
                if bits > policy.INTEGER_BITS_MAX and a not in (0, 1, -1):
                    raise too_big()
                charge((bits // costs.INTEGER_BITS) ** 2 // 4 + b.bit_length() // 8)
            result = a**b
            return whole(result) if type(result) is int else result
        result = a**b
        if type(result) is complex:
            raise ValueError("a negative number cannot be raised to a fractional power")
        return result

    def lshift(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int) and b > 0:
            if a and a.bit_length() + b > policy.INTEGER_BITS_MAX:
                raise too_big()
            charge(b // costs.INTEGER_BITS)
        return a << b

    def views(a: Any, b: Any) -> tuple[Any, Any]:
        """Operators on dict views give sets that remember their order."""
        if type(a) in VIEWS:
            a = sets.make(a)
            if type(b) not in (Set, FrozenSet):
                b = sets.make(b)
        elif type(b) in VIEWS:
            b = sets.make(b)
        return a, b

    def merged(a: Any, b: Any) -> None:
        size = len(a) + len(b)
        if size > policy.ITEMS_MAX:
            raise ValueError(f"a dict of more than {policy.ITEMS_MAX} items")
        sets.merging(a)
        sets.rehashing(b)

    def or_(a: Any, b: Any) -> Any:
        if type(a) is dict and type(b) is dict:
            merged(a, b)
        elif type(a) in VIEWS or type(b) in VIEWS:
            a, b = views(a, b)
        return a | b

    def ior(a: Any, b: Any) -> Any:
        if type(a) is dict:
            if type(b) is not dict:
                pairs: dict[Any, Any] = {}
                for pair in meter.items(b):
                    if type(pair) not in (*_ITEMS, str):
                        raise TypeError("cannot convert dictionary update sequence element to a sequence")
                    if len(pair) != 2:
                        raise ValueError("dictionary update sequence elements must be pairs")
                    pairs[sets.key(pair[0])] = pair[1]
                b = pairs
            merged(a, b)
            a |= b
            return a
        if type(a) is Set:
            a |= b
            return a
        return or_(a, b)

    def and_(a: Any, b: Any) -> Any:
        if type(a) in VIEWS or type(b) in VIEWS:
            a, b = views(a, b)
        return a & b

    def iand(a: Any, b: Any) -> Any:
        if type(a) is Set:
            a &= b
            return a
        return and_(a, b)

    def xor(a: Any, b: Any) -> Any:
        if type(a) in VIEWS or type(b) in VIEWS:
            a, b = views(a, b)
        return a ^ b

    def ixor(a: Any, b: Any) -> Any:
        if type(a) is Set:
            a ^= b
            return a
        return xor(a, b)

    def product(result: int) -> int:
        """What `a * b` of integers has given, when it is no small one: at the price of its halves."""
        half = result.bit_length() // 2
        charge(costs.product_steps(half, half))
        return whole(result)

    def sum_(result: Any) -> Any:
        """What `a + b` has given, when it is no small number."""
        kind = type(result)
        if kind is int:
            return whole(result)
        if kind in _TEXT:
            if len(result) > policy.TEXT_LENGTH_MAX:
                raise too_long(kind.__name__, policy.TEXT_LENGTH_MAX)
            charge(len(result) // costs.COPY_BYTES)
        elif kind in _ITEMS:
            if len(result) > policy.ITEMS_MAX:
                raise too_long(kind.__name__, policy.ITEMS_MAX)
            charge(len(result) // costs.COPY_ITEMS)
        return result

    return {
        "_sum_": sum_,
        "_whole_": whole,
        "_product_": product,
        "_floordiv_": floordiv,
        "_truediv_": truediv,
        "_add_": add,
        "_iadd_": iadd,
        "_sub_": sub,
        "_isub_": isub,
        "_mul_": mul,
        "_imul_": imul,
        "_mod_": mod,
        "_pow_": power,
        "_lshift_": lshift,
        "_or_": or_,
        "_ior_": ior,
        "_and_": and_,
        "_iand_": iand,
        "_xor_": xor,
        "_ixor_": ixor,
    }
