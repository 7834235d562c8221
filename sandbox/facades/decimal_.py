"""`decimal`: decimal numbers of bounded precision under one context that no guest can change."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs
from sandbox.facades.base import Facade, integer, text
from sandbox.faces import Face
from sandbox.host import HostObject

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

PRECISION: Final = 28
DIGITS_MAX: Final = 100
EXPONENT_MAX: Final = 999
ARITHMETIC_STEPS: Final = 3
TEXT_STEPS: Final = 3  # from and to texts, and for comparing with another type
TEXT_DIGITS: Final = 32  # of a text or a large exponent, per step
SERIES_STEPS: Final = 5_000  # powers, roots and logarithms, at the worst exponents
_CONTEXT: Final = decimal.Context(
    prec=PRECISION,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-EXPONENT_MAX,
    Emax=EXPONENT_MAX,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
_ROUNDINGS: Final = (
    "ROUND_CEILING", "ROUND_DOWN", "ROUND_FLOOR", "ROUND_HALF_DOWN", "ROUND_HALF_EVEN", "ROUND_HALF_UP",
    "ROUND_UP",
    "ROUND_05UP",
)  # fmt: skip


class InvalidOperation(ArithmeticError):
    """An operation without a decimal result."""


def attempt(operation: Callable[..., Any], *args: Any) -> Any:
    try:
        return operation(*args)
    except decimal.DivisionByZero:
        raise ZeroDivisionError("division by zero") from None
    except decimal.Overflow:
        raise OverflowError("a decimal of too large an exponent") from None
    except decimal.DecimalException as error:
        raise InvalidOperation(type(error).__name__) from None


class Decimal(HostObject):
    """A value over the host's decimal; arithmetic with ints and other decimals."""

    __slots__ = ("_charge", "_value")
    _exposed_ = frozenset(
        {
            "as_tuple", "compare", "copy_abs", "copy_negate", "copy_sign", "is_finite", "is_infinite",
            "is_nan",
            "is_signed", "is_zero", "normalize", "quantize", "sqrt", "to_integral_value", "adjusted", "ln",
            "log10",
            "exp", "max", "min",
        }
    )  # fmt: skip

    def __init__(self, value: decimal.Decimal, charge: Callable[[int], None]) -> None:
        self._value = value
        self._charge = charge

    def _do(self, operation: Callable[..., Any], *args: Any, steps: int = ARITHMETIC_STEPS) -> Any:
        """Carry out an operation of the context, with our own errors in place of its signals."""
        self._charge(steps)
        result = attempt(operation, *args)
        return Decimal(result, self._charge) if type(result) is decimal.Decimal else result

    def _binary(
        self, operation: Callable[..., Any], other: Any, *, swap: bool = False, steps: int = ARITHMETIC_STEPS
    ) -> Any:
        right = _value(other)
        if right is None:
            return NotImplemented
        return (
            self._do(operation, right, self._value, steps=steps)
            if swap
            else self._do(operation, self._value, right, steps=steps)
        )

    def __add__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.add, other)

    def __radd__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.add, other)

    def __sub__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.subtract, other)

    def __rsub__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.subtract, other, swap=True)

    def __mul__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.multiply, other)

    def __rmul__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.multiply, other)

    def __truediv__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.divide, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.divide, other, swap=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.divide_int, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.divide_int, other, swap=True)

    def __mod__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.remainder, other)

    def __rmod__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.remainder, other, swap=True)

    def __pow__(self, other: Any) -> Any:
        return self._binary(_CONTEXT.power, other, steps=SERIES_STEPS)

    def __neg__(self) -> Any:
        return self._do(_CONTEXT.minus, self._value)

    def __pos__(self) -> Any:
        return self._do(_CONTEXT.plus, self._value)

    def __abs__(self) -> Any:
        return self._do(_CONTEXT.abs, self._value)

    def __round__(self, digits: Any = None) -> Any:
        if digits is None:
            self._charge(self._size())
            return int(self._value.to_integral_value(decimal.ROUND_HALF_EVEN, _CONTEXT))
        self._charge(self._size())
        step = decimal.Decimal(1).scaleb(-integer(digits, "digits", low=-DIGITS_MAX, high=DIGITS_MAX))
        return self._do(_CONTEXT.quantize, self._value, step)

    def __int__(self) -> int:
        self._charge(self._size())
        return int(self._value)

    def _size(self) -> int:
        """Return what all digits cost, the zeros before and after included."""
        value = self._value
        digits = abs(value.adjusted()) + len(value.as_tuple().digits) if value.is_finite() else 0
        return TEXT_STEPS + digits // TEXT_DIGITS

    def __float__(self) -> float:
        self._charge(TEXT_STEPS)
        return float(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def _compare(self, other: Any) -> Any:
        self._charge(1 if type(other) is Decimal else TEXT_STEPS)
        return other if type(other) is float else _value(other)

    def __eq__(self, other: object) -> Any:
        right = self._compare(other)
        return NotImplemented if right is None else self._value == right

    def __lt__(self, other: Any) -> Any:
        right = self._compare(other)
        return NotImplemented if right is None else self._value < right

    def __le__(self, other: Any) -> Any:
        right = self._compare(other)
        return NotImplemented if right is None else self._value <= right

    def __gt__(self, other: Any) -> Any:
        right = self._compare(other)
        return NotImplemented if right is None else self._value > right

    def __ge__(self, other: Any) -> Any:
        right = self._compare(other)
        return NotImplemented if right is None else self._value >= right

    def __hash__(self) -> int:
        self._charge(TEXT_STEPS)
        return hash(self._value)

    def _text_(self) -> str:
        self._charge(TEXT_STEPS)
        return str(self._value)

    def _repr_(self) -> str:
        return f"Decimal('{self._value}')"

    def _format_(self, spec: str) -> str:
        if len(spec) > 20 or "n" in spec:
            raise ValueError("invalid format string")
        for number in "".join(c if c.isdigit() else " " for c in spec).split():
            if int(number[:9]) > EXPONENT_MAX:
                raise ValueError(f"a width or precision of more than {EXPONENT_MAX}")
        self._charge(self._size() + EXPONENT_MAX // TEXT_DIGITS)
        return format(self._value, spec)

    def quantize(self, exp: Any, rounding: Any = None) -> Any:
        mode = None if rounding is None else text(rounding, "rounding")
        if mode is not None and mode not in _ROUNDINGS:
            raise TypeError("unknown rounding")
        return self._do(lambda: self._value.quantize(_need(exp), mode, _CONTEXT))

    def normalize(self) -> Any:
        return self._do(_CONTEXT.normalize, self._value)

    def sqrt(self) -> Any:
        return self._do(_CONTEXT.sqrt, self._value, steps=SERIES_STEPS)

    def ln(self) -> Any:
        return self._do(_CONTEXT.ln, self._value, steps=SERIES_STEPS)

    def log10(self) -> Any:
        return self._do(_CONTEXT.log10, self._value, steps=SERIES_STEPS)

    def exp(self) -> Any:
        return self._do(_CONTEXT.exp, self._value, steps=SERIES_STEPS)

    def to_integral_value(self, rounding: Any = None) -> Any:
        mode = decimal.ROUND_HALF_EVEN if rounding is None else text(rounding, "rounding")
        return self._do(lambda: self._value.to_integral_value(mode, _CONTEXT))

    def compare(self, other: Any) -> Any:
        return self._do(_CONTEXT.compare, self._value, _need(other))

    def max(self, other: Any) -> Any:
        return self._do(_CONTEXT.max, self._value, _need(other))

    def min(self, other: Any) -> Any:
        return self._do(_CONTEXT.min, self._value, _need(other))

    def copy_abs(self) -> Any:
        return Decimal(self._value.copy_abs(), self._charge)

    def copy_negate(self) -> Any:
        return Decimal(self._value.copy_negate(), self._charge)

    def copy_sign(self, other: Any) -> Any:
        return Decimal(self._value.copy_sign(_need(other)), self._charge)

    def as_tuple(self) -> tuple[Any, ...]:
        self._charge(self._size())
        return tuple(self._value.as_tuple())

    def adjusted(self) -> int:
        return self._value.adjusted()

    def is_finite(self) -> bool:
        return self._value.is_finite()

    def is_infinite(self) -> bool:
        return self._value.is_infinite()

    def is_nan(self) -> bool:
        return self._value.is_nan()

    def is_signed(self) -> bool:
        return self._value.is_signed()

    def is_zero(self) -> bool:
        return self._value.is_zero()


def _value(other: Any) -> decimal.Decimal | None:
    if type(other) is Decimal:
        return other._value
    if isinstance(other, int):
        return _parsed(int(other))
    return None


def _need(other: Any) -> decimal.Decimal:
    value = _value(other)
    if value is None:
        raise TypeError("a Decimal or an int is needed")
    return value


def _parsed(source: Any) -> decimal.Decimal:
    if isinstance(source, int) and source.bit_length() > DIGITS_MAX * 3:
        raise OverflowError(f"a decimal of more than {DIGITS_MAX} digits")
    if type(source) is str and len(source) > 2 * DIGITS_MAX:
        raise OverflowError(f"a decimal of more than {DIGITS_MAX} digits")
    value = decimal.Decimal(source)
    if value.is_finite() and (
        len(value.as_tuple().digits) > 8 * DIGITS_MAX or abs(value.adjusted()) > EXPONENT_MAX
    ):
        raise OverflowError("a decimal of too many digits")
    return value


def build(runtime: GuestRuntime) -> Facade:
    def make(value: Any = 0) -> Any:
        if type(value) is Decimal:
            runtime.meter.charge(1)
            return value
        digits = len(value) if type(value) is str else 0
        exponent = costs.float_steps(value) if type(value) is float else 0
        runtime.meter.charge(TEXT_STEPS + digits // TEXT_DIGITS + exponent)
        if not isinstance(value, (int, float)) and type(value) is not str:
            raise TypeError("a Decimal is made from a text, a number or a Decimal")
        return Decimal(attempt(_parsed, value), runtime.meter.charge)

    face = Face("Decimal", Decimal, make, annotation=decimal.Decimal)
    names: dict[str, Any] = {name: getattr(decimal, name) for name in _ROUNDINGS}
    return Facade("decimal", {**names, "Decimal": face, "InvalidOperation": InvalidOperation})
