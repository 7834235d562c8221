"""What a function takes: its parameters, as the validator of its one argument object.

Pure: the decorators use it on real signatures, the sandbox on the signatures of
guests, whose annotations it has evaluated itself (`app-api.md` 2).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from tidewell.annotations import object_fields, to_validator
from tidewell.refs import wire_name
from tidewell.validators import (
    AnyValidator,
    InvalidValidator,
    ObjectValidator,
    OptionalValidator,
    Validator,
    optional,
    required,
)

ARGUMENTS_DICT: Final = "args"  # a lone unannotated parameter of this name takes all arguments, unchecked


class Unset(enum.Enum):
    UNSET = "unset"


UNSET: Final = Unset.UNSET


@attrs.frozen
class Parameter:
    name: str
    annotation: object = UNSET
    has_default: bool = False
    is_plain: bool = True  # can be given by name; False for *args, **kwargs and positional-only
    takes_rest: bool = False  # it is **kwargs


@attrs.frozen
class Signature:
    """How a function is called with an argument object.

    Args:
      arguments: the validator of the object; None takes any object, as one dict.
      parameters: the parameter of each argument whose name differs from it
        (`from` is passed as `from_`).
    """

    arguments: ObjectValidator | None
    parameters: Mapping[str, str]


def read_signature(parameters: Sequence[Parameter], declared: object = None) -> Signature:
    """Return how a function with these parameters, `ctx` first, is called.

    Args:
      declared: the `args=` of the decorator.

    Raises:
      InvalidValidator: what is wrong with the signature and how to write it.
    """
    if not parameters:
        raise InvalidValidator("a function takes ctx as its first parameter")
    own = [parameter for parameter in parameters[1:] if not (parameter.takes_rest and declared is not None)]
    takes_rest = len(own) < len(parameters) - 1
    for parameter in own:
        if parameter.takes_rest:
            raise InvalidValidator(
                f"what '**{parameter.name}' takes is not declared; write args={{...}}, "
                "or each argument by its name"
            )
        if not parameter.is_plain:
            raise InvalidValidator(
                f"the parameter {parameter.name!r} cannot be given by name; write out each argument"
            )
    if declared is None:
        if len(own) == 1 and own[0].name == ARGUMENTS_DICT and own[0].annotation is UNSET:
            return Signature(None, {})
        fields = {wire_name(parameter.name): _field(parameter) for parameter in own}
    else:
        fields = _declared_fields(declared)
        _check_agreement(own, fields, takes_rest)
    names = {wire_name(parameter.name): parameter.name for parameter in own}
    renamed = {wire: name for wire, name in names.items() if wire != name}
    return Signature(ObjectValidator(fields), renamed)


def _field(parameter: Parameter) -> Validator:
    where = f"parameter {parameter.name!r}"
    if parameter.annotation is UNSET:
        validator: Validator = AnyValidator()
    else:
        validator = to_validator(parameter.annotation, where)
    if parameter.has_default:
        return optional(validator)
    if isinstance(validator, OptionalValidator):
        raise InvalidValidator(f"{where} is optional, so it needs a default")
    return validator


def _declared_fields(declared: object) -> dict[str, Validator]:
    if isinstance(declared, Mapping):
        return object_fields(declared)
    validator = to_validator(declared, "args=")
    if not isinstance(validator, ObjectValidator):
        raise InvalidValidator("args= is a dict of validators, or one v.object(...)")
    return dict(validator.fields)


def _check_agreement(own: Sequence[Parameter], fields: Mapping[str, Validator], takes_rest: bool) -> None:
    """Every declared argument has its parameter and the reverse; optional ones have a default."""
    by_wire = {wire_name(parameter.name): parameter for parameter in own}
    for name, field in fields.items():
        parameter = by_wire.get(name)
        if parameter is None:
            if takes_rest:
                continue
            raise InvalidValidator(
                f"args= declares {name!r}, which is not a parameter of the function; declared arguments "
                "arrive by name, as in def f(ctx, a, b)"
            )
        if isinstance(field, OptionalValidator) and not parameter.has_default:
            raise InvalidValidator(
                f"the argument {name!r} is optional, so the parameter needs a default: {parameter.name}=None"
            )
    for name, parameter in by_wire.items():
        if name not in fields and not parameter.has_default:
            raise InvalidValidator(f"the parameter {parameter.name!r} is not declared in args=")


def read_returns(annotation: object, declared: object = None) -> Validator | None:
    """Return the validator of the result, None when there is nothing to check."""
    if declared is not None:
        return required(to_validator(declared, "returns="), "returns=")
    if annotation is UNSET:
        return None
    validator = required(to_validator(annotation, "the return annotation"), "the return annotation")
    return None if isinstance(validator, AnyValidator) else validator
