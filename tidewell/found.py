"""What an error message says was found: the kind of a value and a shortened text of it."""

from __future__ import annotations

from typing import Final

from tidewell.values import MISSING, Value, kind_of

TEXT_LENGTH_MAX: Final = 80
ITEMS_SHOWN: Final = 4
DEPTH_SHOWN: Final = 3


def found_text(value: Value) -> str:
    """Return kind and shortened text of a value, in bounded time however large it is."""
    kind = kind_of(value)
    if value is None or value is MISSING:
        return kind
    text = repr(_shortened(value, DEPTH_SHOWN))
    return f"the {kind} {text if len(text) <= TEXT_LENGTH_MAX else text[: TEXT_LENGTH_MAX - 3] + '...'}"


def _shortened(value: Value, depth_left: int) -> object:
    kind = type(value)
    if kind is str and len(value) > 60:
        return value[:57] + "..."
    if kind is bytes and len(value) > 30:
        return value[:30]
    if kind is list:
        return [_shortened(item, depth_left - 1) for item in value[: ITEMS_SHOWN if depth_left else 0]]
    if kind is dict:
        keys = list(value)[: ITEMS_SHOWN if depth_left else 0]
        return {key[:40]: _shortened(value[key], depth_left - 1) for key in keys}
    return value
