"""The texts of the interpreter's errors, the same on every version: asked by handlers and by `text`.

A guest can read what an error says, look into it and count its letters, and versions
of the interpreter word some errors differently. Each wording is brought into one
form, whoever raised it: an error of the guest that reads like one of these is
rewritten as well, and alike on every version.
"""

from __future__ import annotations

import re
from typing import Final

LENGTH_MAX: Final = 200  # longer texts are the guest's own

# What versions say, and the form that a guest sees.
_FORMS: Final = (
    (r"(max|min)\(\) iterable argument is empty", r"\1() arg is an empty sequence"),
    (
        r"'(\w+)' is an invalid keyword argument for (\w+)\(\)",
        r"\2() got an unexpected keyword argument '\1'",
    ),
    (r"(.+ got an unexpected keyword argument '\w+')\. Did you mean '\w+'\?", r"\1"),
    (
        r"(\w+)\(\) takes at (least|most) (\d+) arguments? \((\d+) given\)",
        r"\1() takes at \2 \3 argument(s), \4 given",
    ),
    (
        r"(\w+) expected at (least|most) (\d+) arguments?, got (\d+)",
        r"\1() takes at \2 \3 argument(s), \4 given",
    ),
    (r"(?:\w+\.<locals>\.)+(\w+\(\) .+)", r"\1"),
    (r"\w+\.(\w+\(\) takes no keyword arguments)", r"\1"),
    (r"\w+\(\) argument 1 must be str, not None", "must be str, not NoneType"),
    (r"\w+\(\) argument 1 must be str, not (\w+)", r"must be str, not \1"),
    (r"float modulo by zero", "float modulo"),
)
_COMPILED: Final = tuple((re.compile(form), plain) for form, plain in _FORMS)
_SIGNS: Final = ("argument", "float modulo")  # one of them is in every form


def steady(text: str) -> str:
    """Return the form of an error's text that is the same on every version."""
    if len(text) > LENGTH_MAX or not any(sign in text for sign in _SIGNS):
        return text
    for form, plain in _COMPILED:
        match = form.fullmatch(text)
        if match is not None:
            text = match.expand(plain)
    return text
