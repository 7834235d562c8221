"""`datetime` in UTC: the frozen clock of the call, fixed offsets, and no local time anywhere.

Every object is ours, over one of the standard module: those have `now` and `today`
among their methods, on instances too, and text by platform. A naive datetime is
taken for UTC.
"""

from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # not in the stubs; what strptime imports on first use; nothing can be imported in a worker
import datetime as real
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sandbox.facades.base import Facade, integer, number, text
from sandbox.faces import Face
from sandbox.host import HostObject

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_CODES: Final = frozenset("aAbBcdHIjmMpSUwWxXyYzZfuVG%")
_FORMAT_MAX: Final = 200
_BITS_MAX: Final = 128  # of a number in a date or a duration
PARSE_STEPS: Final = 20
WRITE_STEPS: Final = 3  # for a code that is written
CHOICES_STEP: Final = 16  # ways to divide digits among codes, as cheap as one step
CHOICES_MAX: Final = 14  # codes; each comes once
CODE_STEPS: Final = 400  # for a code of a format, about what compiling its pattern takes
FORMATS_KEPT: Final = 4


def _codes(form: Any) -> str:
    """Check a format for `strftime` and `strptime`."""
    if len(text(form, "format")) > _FORMAT_MAX:
        raise ValueError(f"a format of more than {_FORMAT_MAX} characters")
    i = form.find("%")
    while i >= 0:
        if form[i + 1 : i + 2] not in _CODES or i + 1 >= len(form):
            raise ValueError(f"the format code %{form[i + 1 : i + 2]} is not available in functions")
        i = form.find("%", i + 2)
    if not form.isascii():
        raise ValueError("a format in ASCII is needed")
    return str(form)


class _Wrapped(HostObject):
    """A value of the standard module, compared and hashed by it."""

    __slots__ = ("_charge", "_value")
    _value: Any

    def __init__(self, value: Any, charge: Callable[[int], None]) -> None:
        self._value = value
        self._charge = charge

    def _peer(self, other: Any) -> Any:
        return other._value if type(other) is type(self) else None

    def __eq__(self, other: object) -> Any:
        peer = self._peer(other)
        return NotImplemented if peer is None else self._value == peer

    def __lt__(self, other: Any) -> Any:
        peer = self._peer(other)
        return NotImplemented if peer is None else self._value < peer

    def __le__(self, other: Any) -> Any:
        peer = self._peer(other)
        return NotImplemented if peer is None else self._value <= peer

    def __gt__(self, other: Any) -> Any:
        peer = self._peer(other)
        return NotImplemented if peer is None else self._value > peer

    def __ge__(self, other: Any) -> Any:
        peer = self._peer(other)
        return NotImplemented if peer is None else self._value >= peer

    def __hash__(self) -> int:
        return hash(self._value)

    def _text_(self) -> str:
        return str(self._value)

    def _repr_(self) -> str:
        return repr(self._value)


class _Formatted:
    """What date, time and datetime share."""

    __slots__ = ()
    _value: Any
    _charge: Callable[[int], None]

    def isoformat(self, *args: Any) -> str:
        return str(self._value.isoformat(*args))

    def strftime(self, format: Any) -> str:  # noqa: A002  # the name that users write
        form = _codes(format)
        self._charge(WRITE_STEPS * (1 + form.count("%")))
        if hasattr(self._value, "year"):
            form = form.replace("%%", "%\0").replace("%Y", f"{self._value.year:04d}").replace("%\0", "%%")
        return str(self._value.strftime(form))

    def _format_(self, spec: str) -> str:
        return self.strftime(spec)


_FORMATTED: Final = frozenset({"isoformat", "strftime"})


class Delta(_Wrapped):
    __slots__ = ()
    _exposed_ = frozenset({"days", "microseconds", "seconds", "total_seconds"})

    @property
    def days(self) -> int:
        return int(self._value.days)

    @property
    def seconds(self) -> int:
        return int(self._value.seconds)

    @property
    def microseconds(self) -> int:
        return int(self._value.microseconds)

    def total_seconds(self) -> float:
        return float(self._value.total_seconds())

    def __add__(self, other: Any) -> Any:
        if type(other) is Delta:
            return Delta(self._value + other._value, self._charge)
        return other + self if type(other) in (Date, DateTime) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return Delta(self._value - other._value, self._charge) if type(other) is Delta else NotImplemented

    def __mul__(self, other: Any) -> Any:
        return (
            Delta(self._value * _near(other), self._charge)
            if isinstance(other, (int, float))
            else NotImplemented
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if type(other) is Delta:
            return self._value / other._value
        return (
            Delta(self._value / _near(other), self._charge)
            if isinstance(other, (int, float))
            else NotImplemented
        )

    def __floordiv__(self, other: Any) -> Any:
        if type(other) is Delta:
            return self._value // other._value
        return Delta(self._value // _near(other), self._charge) if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        return Delta(self._value % other._value, self._charge) if type(other) is Delta else NotImplemented

    def __neg__(self) -> Any:
        return Delta(-self._value, self._charge)

    def __abs__(self) -> Any:
        return Delta(abs(self._value), self._charge)

    def __bool__(self) -> bool:
        return bool(self._value)


class Zone(_Wrapped):
    __slots__ = ()
    _exposed_ = frozenset({"tzname", "utcoffset"})

    def utcoffset(self, when: Any = None) -> Delta:
        return Delta(self._value.utcoffset(None), self._charge)

    def tzname(self, when: Any = None) -> str:
        return str(self._value.tzname(None))


class _OfDay(_Wrapped):
    """What times and moments both have."""

    __slots__ = ()
    _exposed_ = frozenset({"hour", "microsecond", "minute", "second", "tzinfo"})

    @property
    def hour(self) -> int:
        return int(self._value.hour)

    @property
    def minute(self) -> int:
        return int(self._value.minute)

    @property
    def second(self) -> int:
        return int(self._value.second)

    @property
    def microsecond(self) -> int:
        return int(self._value.microsecond)

    @property
    def tzinfo(self) -> Any:
        return None if self._value.tzinfo is None else Zone(self._value.tzinfo, self._charge)


class Date(_Formatted, _Wrapped):
    __slots__ = ()
    _exposed_ = _FORMATTED | {
        "ctime", "day", "isocalendar", "isoweekday", "month", "replace", "toordinal", "weekday", "year",
    }  # fmt: skip

    @property
    def year(self) -> int:
        return int(self._value.year)

    @property
    def month(self) -> int:
        return int(self._value.month)

    @property
    def day(self) -> int:
        return int(self._value.day)

    def weekday(self) -> int:
        return int(self._value.weekday())

    def isoweekday(self) -> int:
        return int(self._value.isoweekday())

    def isocalendar(self) -> tuple[int, ...]:
        return tuple(self._value.isocalendar())

    def toordinal(self) -> int:
        return int(self._value.toordinal())

    def ctime(self) -> str:
        return str(self._value.ctime())

    def replace(self, **parts: Any) -> Any:
        self._charge(1)
        return type(self)(self._value.replace(**_parts(parts)), self._charge)

    def __add__(self, other: Any) -> Any:
        return (
            type(self)(self._value + other._value, self._charge) if type(other) is Delta else NotImplemented
        )

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if type(other) is Delta:
            return type(self)(self._value - other._value, self._charge)
        return (
            Delta(self._value - other._value, self._charge) if type(other) is type(self) else NotImplemented
        )


class Time(_Formatted, _OfDay):
    __slots__ = ()
    _exposed_ = _FORMATTED | _OfDay._exposed_ | {"replace"}

    def replace(self, **parts: Any) -> Any:
        self._charge(1)
        return Time(self._value.replace(**_parts(parts)), self._charge)


class DateTime(Date, _OfDay):
    __slots__ = ()
    _exposed_ = (
        Date._exposed_
        | _OfDay._exposed_
        | {"astimezone", "date", "time", "timestamp", "timetz", "tzname", "utcoffset"}
    )

    def _aware(self) -> real.datetime:
        value: real.datetime = self._value
        return value if value.tzinfo is not None else value.replace(tzinfo=real.UTC)

    def date(self) -> Date:
        return Date(self._value.date(), self._charge)

    def time(self) -> Time:
        return Time(self._value.time(), self._charge)

    def timetz(self) -> Time:
        return Time(self._value.timetz(), self._charge)

    def timestamp(self) -> float:
        return self._aware().timestamp()

    def astimezone(self, tz: Any = None) -> DateTime:
        return DateTime(self._aware().astimezone(real.UTC if tz is None else _zone(tz)), self._charge)

    def utcoffset(self) -> Any:
        offset = self._value.utcoffset()
        return None if offset is None else Delta(offset, self._charge)

    def tzname(self) -> Any:
        return self._value.tzname()


def _zone(value: Any) -> Any:
    if value is None:
        return None
    if type(value) is not Zone:
        raise TypeError("tzinfo must be None or a timezone")
    return value._value


def _near(value: Any) -> Any:
    """Return a number, unless it is longer than any part of a moment or a duration can be."""
    if isinstance(value, int) and value.bit_length() > _BITS_MAX:
        raise OverflowError(f"a number of more than {_BITS_MAX} bits in a date or a duration")
    return value


def _parts(parts: dict[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in parts.items():
        if name == "tzinfo":
            checked[name] = _zone(value)
        elif name in ("year", "month", "day", "hour", "minute", "second", "microsecond", "fold"):
            checked[name] = _near(integer(value, name))
        else:
            raise TypeError(f"unexpected keyword argument '{name}'")
    return checked


def _named(names: tuple[str, ...], args: tuple[Any, ...], more: dict[str, Any]) -> dict[str, Any]:
    if len(args) > len(names):
        raise TypeError("too many arguments")
    return _parts({**dict(zip(names, args, strict=False)), **more})


class Formats:
    """The formats that a call parsed with last. The standard module keeps about as many compiled; what it
    keeps over calls must not be seen in the steps of one.
    """

    def __init__(self, runtime: GuestRuntime) -> None:
        self._runtime = runtime
        self._call: object = None
        self._recent: list[str] = []

    def steps(self, form: str) -> int:
        """Return what parsing with `form` takes, its compilation included where it is new to the call."""
        if self._call is not self._runtime.observed:  # a set of its own for each call
            self._call, self._recent = self._runtime.observed, []
        codes = form.count("%")
        parse = PARSE_STEPS + (1 << min(codes, CHOICES_MAX)) // CHOICES_STEP
        if form in self._recent:
            return parse
        self._recent = [*self._recent[-FORMATS_KEPT + 1 :], form]
        return parse + CODE_STEPS * (1 + codes) + len(form)


def build(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge
    formats = Formats(runtime)
    runtime.forgets += [_strptime._regex_cache.clear, re.purge]

    def clock() -> real.datetime:
        runtime.observed.add("time")
        charge(2)
        return real.datetime(1970, 1, 1, tzinfo=real.UTC) + real.timedelta(milliseconds=int(runtime.now_ms))

    def now(tz: Any = None) -> DateTime:
        return DateTime(clock().replace(tzinfo=None) if tz is None else clock().astimezone(_zone(tz)), charge)

    def utcnow() -> DateTime:
        return DateTime(clock().replace(tzinfo=None), charge)

    def make_datetime(*args: Any, **more: Any) -> DateTime:
        charge(1)
        names = ("year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo")
        return DateTime(real.datetime(**_named(names, args, more)), charge)

    def make_date(*args: Any, **more: Any) -> Date:
        charge(1)
        return Date(real.date(**_named(("year", "month", "day"), args, more)), charge)

    def make_time(*args: Any, **more: Any) -> Time:
        charge(1)
        return Time(
            real.time(**_named(("hour", "minute", "second", "microsecond", "tzinfo"), args, more)), charge
        )

    def make_delta(days: Any = 0, seconds: Any = 0, microseconds: Any = 0, milliseconds: Any = 0,
    minutes: Any = 0,
                   hours: Any = 0, weeks: Any = 0) -> Delta:  # fmt: skip
        charge(2)
        parts = (days, seconds, microseconds, milliseconds, minutes, hours, weeks)
        return Delta(real.timedelta(*[_near(number(part)) for part in parts]), charge)

    def make_zone(offset: Any, name: Any = None) -> Zone:
        if type(offset) is not Delta:
            raise TypeError("timezone() argument 1 must be a timedelta")
        if name is None:
            return Zone(real.timezone(offset._value), charge)
        return Zone(real.timezone(offset._value, text(name, "name")[:64]), charge)

    def from_timestamp(seconds: Any, tz: Any = None) -> DateTime:
        charge(1)
        moment = real.datetime.fromtimestamp(_near(number(seconds, "timestamp")), real.UTC)
        return DateTime(moment.replace(tzinfo=None) if tz is None else moment.astimezone(_zone(tz)), charge)

    def short(value: Any) -> str:
        charge(2)
        if len(text(value)) > _FORMAT_MAX:
            raise ValueError("Invalid isoformat string")
        return str(value)

    def strptime(date_string: Any, format: Any) -> DateTime:  # noqa: A002  # the name that users write
        form = _codes(format)
        charge(formats.steps(form))
        moment = real.datetime.strptime(short(date_string), form)
        return DateTime(moment, charge)

    def combine(date: Any, time: Any) -> DateTime:
        if not isinstance(date, Date) or type(time) is not Time:
            raise TypeError("combine() takes a date and a time")
        return DateTime(real.datetime.combine(date._value, time._value), charge)

    def iso(kind: Any, wrap: Callable[..., Any]) -> Callable[[Any], Any]:
        return lambda value: wrap(kind.fromisoformat(short(value)), charge)

    utc = Zone(real.UTC, charge)
    datetimes: dict[str, Any] = {
        "combine": combine,
        "fromisoformat": iso(real.datetime, DateTime),
        "fromordinal": lambda n: DateTime(real.datetime.fromordinal(_near(integer(n))), charge),
        "fromtimestamp": from_timestamp,
        "max": DateTime(real.datetime.max, charge),
        "min": DateTime(real.datetime.min, charge),
        "now": now,
        "strptime": strptime,
        "today": utcnow,
        "utcfromtimestamp": from_timestamp,
        "utcnow": utcnow,
    }
    dates: dict[str, Any] = {
        "fromisocalendar": lambda y, w, d: Date(
            real.date.fromisocalendar(_near(integer(y)), _near(integer(w)), _near(integer(d))), charge
        ),
        "fromisoformat": iso(real.date, Date),
        "fromordinal": lambda n: Date(real.date.fromordinal(_near(integer(n))), charge),
        "fromtimestamp": lambda seconds: from_timestamp(seconds).date(),
        "max": Date(real.date.max, charge),
        "min": Date(real.date.min, charge),
        "today": lambda: Date(clock().date(), charge),
    }
    times: dict[str, Any] = {"fromisoformat": iso(real.time, Time)}
    deltas: dict[str, Any] = {
        "max": Delta(real.timedelta.max, charge),
        "min": Delta(real.timedelta.min, charge),
    }
    return Facade(
        "datetime",
        {
            "UTC": utc,
            "date": Face("date", Date, make_date, dates, annotation=real.date),
            "datetime": Face("datetime", DateTime, make_datetime, datetimes, annotation=real.datetime),
            "time": Face("time", Time, make_time, times, annotation=real.time),
            "timedelta": Face("timedelta", Delta, make_delta, deltas, annotation=real.timedelta),
            "timezone": Face("timezone", Zone, make_zone, {"utc": utc}, annotation=real.timezone),
            "tzinfo": Face("tzinfo", Zone, annotation=real.tzinfo),
        },
    )
