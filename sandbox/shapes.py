"""Classes of the tenant as shapes of data: what the loader asks when an annotation names one."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from sandbox.classes import TypedDictBase, inherited_fields, is_guest_class


@attrs.frozen
class Shape:
    """Args:
    kind: `dataclass`, `typeddict`, or `class` for one with annotated names alone.
    fields: (name, optional) in order. Annotations are in the analysis form, under the
      name of the class that declares the field; `NotRequired[...]` is seen there only.
    owners: the class statement, by name, that each field's annotation stands in.
    """

    kind: Literal["dataclass", "typeddict", "class"]
    fields: tuple[tuple[str, bool], ...]
    owners: dict[str, str]


def shape_of(cls: Any) -> Shape | None:
    """Return the shape of a tenant class, or None for what is not one."""
    if not is_guest_class(cls):
        return None
    owners: dict[str, str] = {}
    total: dict[str, bool] = {}
    for base in reversed(cls.__mro__):
        if is_guest_class(base):
            for name in base.__dict__.get("_fields_", ()):
                owners[name] = base.__name__
                total[name] = base.__dict__.get("_total_", True)
    if issubclass(cls, TypedDictBase):
        return Shape("typeddict", tuple((name, not total[name]) for name in inherited_fields(cls)), owners)
    table = cls.__dict__.get("_dataclass_")
    if table is not None:
        fields = tuple((name, spec._optional) for name, spec in table.items() if spec._init)
        return Shape("dataclass", fields, owners)
    return Shape("class", tuple((name, name in cls.__dict__) for name in inherited_fields(cls)), owners)
