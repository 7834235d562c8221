"""`string` and `textwrap`: constants, and the wrapping of paragraphs with bounded output."""

from __future__ import annotations

import string
import textwrap
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs, policy
from sandbox.facades.base import Facade, integer, text
from sandbox.policy import words

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_CONSTANTS: Final = words(
    "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits printable punctuation "
    "whitespace"
)
_WIDTH_MAX: Final = 10_000
_PREFIX_MAX: Final = 200
_PARAGRAPH_MAX: Final = 64 * 1024  # long words are cut off piece by piece, which is quadratic


_TAB: Final = 7  # columns that a tab adds at most
_CALL_STEPS: Final = 4
_MOVED: Final = 16_384  # characters moved per step, of the rest of a long word


def build_string(runtime: GuestRuntime) -> Facade:
    def capwords(s: Any, sep: Any = None) -> str:
        runtime.meter.charge(len(text(s)) // 4 + 2)
        if sep is not None:
            runtime.meter.charge(costs.forward_steps(len(s), len(text(sep))))
        return runtime.texts.limit(string.capwords(s, sep))

    return Facade("string", {"capwords": capwords, **{name: getattr(string, name) for name in _CONSTANTS}})


def build_textwrap(runtime: GuestRuntime) -> Facade:
    def taken(value: Any, prefix: Any = "", width: int = 0) -> str:
        """Check and charge a text, which is cut at `width` piece by piece."""
        runtime.meter.charge(len(text(value)) // costs.SCAN_BYTES)
        size = len(value) + (value.count("\t") * _TAB if width else 0)
        if (
            size > _PARAGRAPH_MAX
            or len(text(prefix)) > _PREFIX_MAX
            or size * (1 + len(prefix)) > policy.TEXT_LENGTH_MAX
        ):
            raise ValueError("too long to wrap")
        runtime.meter.charge(size + _CALL_STEPS)
        if width:
            runtime.meter.charge(size + size * size // (width * _MOVED))
        return str(value)

    def options(width: Any, given: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = {"width": integer(width, "width", low=1, high=_WIDTH_MAX)}
        for name, value in given.items():
            if name in ("initial_indent", "subsequent_indent", "placeholder"):
                if len(text(value, name)) > _PREFIX_MAX:
                    raise ValueError(f"{name} is too long")
                checked[name] = value
            elif name in ("break_long_words", "break_on_hyphens", "drop_whitespace", "replace_whitespace"):
                checked[name] = bool(value)
            elif name == "max_lines":
                checked[name] = None if value is None else integer(value, name, low=1)
            else:
                raise TypeError(f"unexpected keyword argument '{name}'")
        return checked

    def wrap(value: Any, width: Any = 70, **given: Any) -> list[str]:
        checked = options(width, given)
        return textwrap.wrap(taken(value, given.get("subsequent_indent", ""), checked["width"]), **checked)

    def fill(value: Any, width: Any = 70, **given: Any) -> str:
        return runtime.texts.limit("\n".join(wrap(value, width, **given)))

    def shorten(value: Any, width: Any, **given: Any) -> str:
        checked = options(width, given)
        return textwrap.shorten(taken(value, "", checked["width"]), **checked)

    def dedent(value: Any) -> str:
        return textwrap.dedent(taken(value))

    def indent(value: Any, prefix: Any) -> str:
        return runtime.texts.limit(textwrap.indent(taken(value, prefix), prefix))

    return Facade(
        "textwrap", {"dedent": dedent, "fill": fill, "indent": indent, "shorten": shorten, "wrap": wrap}
    )
