"""Validators: trees that say which values are accepted, and what is wrong with the others.

`v` (`builders.py`) and annotations (`annotations.py`) build the same trees, and
`validator_json.py` carries them between a worker and the engine as plain data.

A check takes a *canonical* value (`values.normalize`) and returns it, or an equal
one in which a plain `int` became an `Int64` because the validator says so (N4).
A failure names the path, what was found there and what was expected; of a union
it is the failure of the member that got furthest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from tidewell.errors import InvalidId, InvalidValue, ValidationFailed
from tidewell.found import found_text
from tidewell.ids import decode_id
from tidewell.mismatch import MEMBERS_SHOWN, Explanation, Mismatch, alternatives, merged
from tidewell.values import COMMIT_TS, NUMBER_INT_MAX, Int64, Value, normalize

Json: TypeAlias = Any  # None, bool, int, float, str, list and dict

ALTERNATIVES_MAX: Final = 200_000  # in one check: under a second; an array of 8,192 has room for 24 each


@attrs.frozen
class Scope:
    """What a check has to know beyond the value.

    Args:
      table_number: the number of a table, None when there is no such table.
        Without this function the ids of every table are accepted.
      coerces: whether a plain `int` may stand for an int64. True for what Python
        code hands over; False for what a client sent, who says which it means (N6).
      spend: told of every alternative of a union that is tried, because unions in
        unions can take time that grows exponentially with their depth; it raises when
        that is too much. Without it, `ALTERNATIVES_MAX` of them may be tried.
    """

    table_number: Callable[[str], int | None] | None = None
    coerces: bool = True
    spend: Callable[[int], object] | None = None


ANY_TABLE: Final = Scope()


class _TooManyAlternatives(Exception):
    """A check without a budget of its own has used up the common one."""


def _with_budget(scope: Scope) -> Scope:
    left = ALTERNATIVES_MAX

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise _TooManyAlternatives

    return scope if scope.spend is not None else attrs.evolve(scope, spend=spend)


def check(validator: Validator, value: Value, path: str = "value", scope: Scope = ANY_TABLE) -> Value:
    """Return the canonical `value` as `validator` takes it.

    Raises:
      ValidationFailed: with the path of the first thing that does not fit.
    """
    try:
        checked = validator._check(value, _with_budget(scope))
    except _TooManyAlternatives:
        expected = validator._expected()
        problem = (
            f"more than {ALTERNATIVES_MAX} alternatives of unions were tried; make them easier to tell apart"
        )
        raise ValidationFailed(path, problem, found=found_text(value), expected=expected) from None
    if type(checked) is not Mismatch:
        return checked
    where, why = path + "".join(reversed(checked.steps)), checked.explain()
    raise ValidationFailed(where, why.problem, found=why.found, expected=why.expected)


def accepts(validator: Validator, value: Value, scope: Scope = ANY_TABLE) -> bool:
    try:
        check(validator, value, scope=scope)
    except ValidationFailed:
        return False
    return True


def describe(validator: Validator) -> str:
    """Return what `validator` accepts, as a phrase: "a string", "an id of table 'users'"."""
    return validator._expected()


# ---- the tree ------------------------------------------------------------------


class Validator:
    """One node. Frozen; equal trees accept equal values."""

    __slots__ = ()

    def _check(self, value: Value, scope: Scope) -> Value:
        """Return the value as this node takes it, or the `Mismatch`."""
        raise NotImplementedError

    def _expected(self) -> str:
        raise NotImplementedError

    def _json(self) -> Json:
        raise NotImplementedError

    def _refuse(self, value: Value) -> Mismatch:
        return Mismatch(lambda: self._explain(found_text(value)))

    def _explain(self, found: str) -> Explanation:
        expected = self._expected()
        return Explanation(f"found {found}, expected {expected}", found, expected)


@attrs.frozen
class AnyValidator(Validator):
    def _check(self, value: Value, scope: Scope) -> Value:
        return value

    def _expected(self) -> str:
        return "any value"

    def _json(self) -> Json:
        return {"type": "any"}


@attrs.frozen
class KindValidator(Validator):
    """Everything of one kind that needs no second look: null, boolean, string, bytes."""

    name: str

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is not _KIND_TYPES[self.name]:
            return self._refuse(value)
        return value

    def _expected(self) -> str:
        return self.name if self.name in ("null", "bytes") else f"a {self.name}"

    def _json(self) -> Json:
        return {"type": self.name}


_KIND_TYPES: Final[dict[str, type]] = {"null": type(None), "boolean": bool, "string": str, "bytes": bytes}


@attrs.frozen
class NumberValidator(Validator):
    integral: bool = False  # the annotation `int`: a number without a fraction

    def _check(self, value: Value, scope: Scope) -> Value:
        kind = type(value)
        if kind is int or (kind is float and not (self.integral and not _is_integral(value))):
            return value
        return self._refuse(value)

    def _expected(self) -> str:
        return "an integral number" if self.integral else "a number"

    def _json(self) -> Json:
        return {"type": "number", "integral": True} if self.integral else {"type": "number"}


def _is_integral(value: float) -> bool:
    return value.is_integer() and abs(value) <= NUMBER_INT_MAX  # negative zero alone: others are ints by now


@attrs.frozen
class Int64Validator(Validator):
    is_commit_ts: bool = False

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is Int64 or (value is COMMIT_TS and self.is_commit_ts):
            return value
        if type(value) is int and scope.coerces:
            return Int64(value)
        return self._refuse(value)

    def _expected(self) -> str:
        return "a commit timestamp" if self.is_commit_ts else "an int64"

    def _json(self) -> Json:
        return {"type": "commitTs" if self.is_commit_ts else "bigint"}


@attrs.frozen
class IdValidator(Validator):
    table: str

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is not str:
            return self._refuse(value)
        try:
            number, _ = decode_id(value)
        except InvalidId:
            return self._refuse(value)
        if scope.table_number is not None and number != scope.table_number(self.table):
            return Mismatch(lambda: self._explain(f"the id {value!r} of another table"))
        return value

    def _expected(self) -> str:
        return f"an id of table {self.table!r}"

    def _json(self) -> Json:
        return {"type": "id", "tableName": self.table}


@attrs.frozen
class LiteralValidator(Validator):
    value: Value = attrs.field(eq=lambda value: (type(value), value))  # to Python, 1 == True == Int64(1)

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is type(self.value) and value == self.value:
            return value
        if type(self.value) is Int64 and type(value) is int and scope.coerces and value == self.value:
            return self.value
        return self._refuse(value)

    def _expected(self) -> str:
        return f"the literal {self.value!r}"

    def _json(self) -> Json:
        if type(self.value) is Int64:
            return {"type": "literal", "int64": str(int(self.value))}
        return {"type": "literal", "value": self.value}


@attrs.frozen
class ArrayValidator(Validator):
    element: Validator

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is not list:
            return self._refuse(value)
        check_element = self.element._check
        result = value
        for index, item in enumerate(value):
            checked = check_element(item, scope)
            if type(checked) is Mismatch:
                return checked.within(f"[{index}]", 0, index)
            if checked is not item:
                result = list(value) if result is value else result
                result[index] = checked
        return result

    def _expected(self) -> str:
        return "an array"

    def _json(self) -> Json:
        return {"type": "array", "value": self.element._json()}


@attrs.frozen
class RecordValidator(Validator):
    keys: Validator
    values: Validator

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is not dict:
            return self._refuse(value)
        result = value
        for index, (key, item) in enumerate(value.items()):
            checked = self.keys._check(key, scope)
            if type(checked) is not Mismatch:
                checked = self.values._check(item, scope)
            if type(checked) is Mismatch:
                return checked.within(_step(key), 0, index)
            if checked is not item:
                result = dict(value) if result is value else result
                result[key] = checked
        return result

    def _expected(self) -> str:
        return "a record"

    def _json(self) -> Json:
        field = {"fieldType": self.values._json(), "optional": False}
        return {"type": "record", "keys": self.keys._json(), "values": field}


@attrs.frozen
class OptionalValidator(Validator):
    """A field that may be absent. Stands directly inside an object or an argument list only."""

    inner: Validator

    def _check(self, value: Value, scope: Scope) -> Value:
        return self.inner._check(value, scope)

    def _expected(self) -> str:
        return f"{self.inner._expected()}, if present"

    def _json(self) -> Json:
        raise InvalidValidator("v.optional() may stand only directly inside an object or as an argument")


@attrs.frozen
class ObjectValidator(Validator):
    """Exactly these fields, of which the optional ones may be absent."""

    fields: Mapping[str, Validator] = attrs.field(hash=False)
    _required: frozenset[str] = attrs.field(init=False, eq=False, repr=False)

    @_required.default
    def _find_required(self) -> frozenset[str]:
        return frozenset(name for name, field in self.fields.items() if type(field) is not OptionalValidator)

    def pick(self, *names: str) -> ObjectValidator:
        """Return the object with these fields alone."""
        self._must_have(names)
        return ObjectValidator({name: self.fields[name] for name in self.fields if name in names})

    def omit(self, *names: str) -> ObjectValidator:
        """Return the object without these fields."""
        self._must_have(names)
        return ObjectValidator({name: self.fields[name] for name in self.fields if name not in names})

    def extend(self, fields: Mapping[str, object]) -> ObjectValidator:
        """Return the object with further fields, validators or annotations; an equal name is replaced."""
        from tidewell.annotations import object_fields  # which builds these classes

        return ObjectValidator({**self.fields, **object_fields(fields)})

    def partial(self) -> ObjectValidator:
        """Return the object with every field optional."""
        return ObjectValidator({name: optional(field) for name, field in self.fields.items()})

    def _must_have(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.fields:
                raise InvalidValidator(
                    f"there is no field {name!r}; the fields are {', '.join(self.fields) or 'none'}"
                )

    def _check(self, value: Value, scope: Scope) -> Value:
        if type(value) is not dict:
            return self._refuse(value)
        result = value
        fields = self.fields
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                return self._refuse_extra(key, value)
            checked = field._check(item, scope)
            if type(checked) is Mismatch:
                index = list(value).index(key)
                return checked.within(_step(key), self._matching_literals(value), index)
            if checked is not item:
                result = dict(value) if result is value else result
                result[key] = checked
        if not self._required <= value.keys():
            return self._refuse_missing(
                next(name for name in sorted(self._required) if name not in value), value
            )
        return result

    def _refuse_extra(self, key: str, value: dict[str, Value]) -> Mismatch:
        def explain() -> Explanation:
            known, found = ", ".join(self.fields) or "none", f"the extra field {key!r}"
            problem = f"{found} ({found_text(value[key])}) is not expected; the fields are {known}"
            return Explanation(problem, found, known)

        return Mismatch(explain, (1, self._matching_literals(value), list(value).index(key)))

    def _refuse_missing(self, name: str, value: dict[str, Value]) -> Mismatch:
        def explain() -> Explanation:
            expected = self.fields[name]._expected()
            return Explanation(f"the field {name!r} is missing, expected {expected}", "missing", expected)

        return Mismatch(explain, (1, self._matching_literals(value), len(value)))

    def _matching_literals(self, value: dict[str, Value]) -> int:
        """Literals count before anything else: they are what tells the members of a union apart."""
        return sum(
            type(field) is LiteralValidator and name in value and value[name] == field.value
            for name, field in self.fields.items()
        )

    def _expected(self) -> str:
        return "an object"

    def _json(self) -> Json:
        fields = {}
        for name, field in self.fields.items():
            is_optional = type(field) is OptionalValidator
            inner = field.inner if type(field) is OptionalValidator else field
            fields[name] = {"fieldType": inner._json(), "optional": is_optional}
        return {"type": "object", "value": fields}


@attrs.frozen
class UnionValidator(Validator):
    members: tuple[Validator, ...]

    def _check(self, value: Value, scope: Scope) -> Value:
        best: list[Mismatch] = []  # the failures of the members that got furthest
        assert scope.spend is not None, "a check starts in `check`"
        for member in self.members:
            scope.spend(1)
            checked = member._check(value, scope)
            if type(checked) is not Mismatch:
                return checked
            if not best or checked.progress > best[0].progress:
                best = [checked]
            elif checked.progress == best[0].progress and len(best) < MEMBERS_SHOWN:
                best.append(checked)
        if not best or not best[0].progress:
            return self._refuse(value)
        return best[0] if len(best) == 1 or best[0].is_merged else merged(best)

    def _expected(self) -> str:
        if not self.members:
            return "nothing: no value is accepted"
        return alternatives([member._expected() for member in self.members])

    def _json(self) -> Json:
        return {"type": "union", "value": [member._json() for member in self.members]}


class InvalidValidator(TypeError):
    """A validator, an annotation or a table that cannot be built; the message says how to write it."""


def required(inner: Validator, where: str) -> Validator:
    """Return `inner`, which must not be optional in this place."""
    if isinstance(inner, OptionalValidator):
        raise InvalidValidator(f"{where} cannot be optional; v.optional() belongs directly inside an object")
    return inner


def literal(value: object) -> LiteralValidator:
    if type(value) not in (str, int, float, bool, Int64):
        raise InvalidValidator(f"a literal is a str, int, float, bool or Int64, not a {type(value).__name__}")
    try:
        return LiteralValidator(normalize(value, "literal"))
    except InvalidValue as error:
        raise InvalidValidator(str(error)) from None


def optional(inner: Validator) -> OptionalValidator:
    return inner if isinstance(inner, OptionalValidator) else OptionalValidator(inner)


def nullable(inner: Validator) -> Validator:
    """Return the union of `inner` and null."""
    if isinstance(inner, UnionValidator):
        return inner if NULL in inner.members else UnionValidator((*inner.members, NULL))
    return inner if inner == NULL else UnionValidator((inner, NULL))


NULL: Final = KindValidator("null")


def walk(validator: Validator) -> Iterator[Validator]:
    """Yield every node of a tree, parents first."""
    yield validator
    children: tuple[Validator, ...] = ()
    if isinstance(validator, ArrayValidator):
        children = (validator.element,)
    elif isinstance(validator, RecordValidator):
        children = (validator.keys, validator.values)
    elif isinstance(validator, OptionalValidator):
        children = (validator.inner,)
    elif isinstance(validator, ObjectValidator):
        children = tuple(validator.fields.values())
    elif isinstance(validator, UnionValidator):
        children = validator.members
    for child in children:
        yield from walk(child)


def _step(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{key!r}]"
