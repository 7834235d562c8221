"""Which events of a piece of code are the user's, and which are the compiler's.

The transformer adds instructions to a program. Most have the place of what they
guard, so that they are never seen. Two kinds would be: the step and the count of
calls at the head and at the end of every function, which have the place of the whole
`def`; and the lambdas that the operands of a chain of comparisons become.

Names are safe to tell apart: what starts with an underscore, but for `_` alone, is
no name that a user may write.
"""

from __future__ import annotations

import dis
import inspect
import sys
from types import CodeType
from typing import Final, Literal

import attrs

from sandbox.compiler import FILENAME_PREFIX
from sandbox.tracing.look import name_of

Role = Literal["function", "module", "thunk", "host"]

# A generator that pauses stands at its `yield`, or, from Python 3.13 on, already behind it.
_PAUSES: Final = frozenset(dis.opmap[name] for name in ("YIELD_VALUE", "RESUME"))
_RETURNS: Final = frozenset(
    dis.opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR") if name in dis.opmap
)
_PULLS: Final = frozenset(dis.opmap[name] for name in ("FOR_ITER", "SEND"))
_METERS: Final = frozenset({"_budget_", "_enter_", "_next_", "_step_"})  # every lambda of a user takes a step
# Python 3.12 keeps the variables of a comprehension in the body of a module or a class where a
# hook that looks at a line makes None of them. 3.11 has them elsewhere, 3.13 has no such copying.
_LOSES_VARIABLES: Final = sys.version_info[:2] == (3, 12)
_NAMES: Final = {
    "<lambda>": "lambda",
    "<listcomp>": "comprehension",
    "<dictcomp>": "comprehension",
    "<genexpr>": "generator expression",
    "<module>": "module",
}


def is_users(name: str) -> bool:
    """Whether `name` is a variable of the user's, and not one of the compiler's."""
    return name == "_" or name[:1] not in "_."


@attrs.define(eq=False)
class CodeMap:
    """What is known of one code object, looked up once."""

    role: Role
    name: str  # as the author calls it
    file: str
    line: int
    has_lines: bool = True  # whether it can be followed line by line
    spent: dict[int, list[int]] = attrs.field(factory=dict)  # line: times, steps
    _injected: bytes = b""  # per instruction
    _operations: bytes = b""

    def is_injected(self, instruction: int) -> bool:
        return self._injected[instruction >> 1] == 1

    def pauses(self, instruction: int) -> bool:
        return self._operations[instruction] in _PAUSES

    def returns(self, instruction: int) -> bool:
        return self._operations[instruction] in _RETURNS

    def pulls(self, instruction: int) -> bool:
        """Whether the interpreter itself asks an iterator for its next item, and expects its end."""
        return self._operations[instruction] in _PULLS


def map_code(code: CodeType) -> CodeMap:
    if not code.co_filename.startswith(FILENAME_PREFIX):
        return CodeMap("host", "", "", 0)
    file = code.co_filename.removeprefix(FILENAME_PREFIX)
    line, injected = _injected(code)
    role: Role = "function"
    if code.co_name == "<module>":
        role = "module"
    elif code.co_name == "<lambda>" and not _METERS & set(code.co_names):
        role = "thunk"
    return CodeMap(
        role=role,
        name=_name(code),
        file=file,
        line=line,
        has_lines=bool(code.co_flags & inspect.CO_OPTIMIZED) or not _LOSES_VARIABLES,
        injected=injected,
        operations=code.co_code,
    )


def _name(code: CodeType) -> str:
    parts = code.co_qualname.replace(".<locals>", "").split(".")
    return name_of(".".join(_NAMES.get(part, part) for part in parts))


def _injected(code: CodeType) -> tuple[int, bytes]:
    """Return the line of the `def`, and a 1 for each instruction that begins where the function does.

    Every function takes a step, so there is one, and nothing that is in the function begins there.
    """
    places = list(code.co_positions())
    if code.co_name.startswith("<") or not code.co_flags & inspect.CO_OPTIMIZED:
        return code.co_firstlineno, bytes(len(places))
    real = [place for place in places if None not in place and place[2:] != (0, 0)]
    line, column = min(((place[0] or 0, place[2] or 0) for place in real), default=(code.co_firstlineno, -1))
    return line, bytes((place[0], place[2]) == (line, column) for place in places)
