"""The policy as data: which names, attributes, builtins and constructs a function may use.

Frozen tables and nothing else. The transformer, `getattr`, class patterns, the
page `docs/sandbox-policy.md` and the messages all read the same rows. `DIGEST`
covers every row and goes into each execution record and each cache key, so code
compiled under another policy is never run.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Final

import attrs

VERSION: Final = 3  # raised with the form of compiled code as well, which caches keep


@attrs.frozen
class Refusal:
    """Why something is refused, and what to write instead."""

    reason: str
    instead: str

    def text(self, what: str) -> str:
        return f"{what} is not available in functions, because {self.reason}; {self.instead}"


def words(text: str) -> tuple[str, ...]:
    """Return the words of a table that is easier to read as text."""
    return tuple(text.split())


# ---- limits of source ------------------------------------------------------------

SOURCE_BYTES_MAX: Final = 256 * 1024
NODES_MAX: Final = 60_000
NESTING_MAX: Final = 90  # well below the parser's and the compiler's own limits

# ---- caps on values --------------------------------------------------------------

INTEGER_BITS_MAX: Final = 2**14
TEXT_LENGTH_MAX: Final = 2**20  # strings and bytes
ITEMS_MAX: Final = 2**20
DEPTH_MAX: Final = 32  # nesting of values that are compared, hashed, converted or encoded
LAZY_DEPTH_MAX: Final = 32  # iterators over iterators

# ---- attributes ------------------------------------------------------------------

_FRAMES: Final = words(
    "f_back f_builtins f_code f_generator f_globals f_lasti f_lineno f_locals f_trace f_trace_lines "
    "f_trace_opcodes tb_frame tb_lasti tb_lineno tb_next gi_code gi_frame gi_running gi_suspended gi_state "
    "gi_yieldfrom cr_await cr_code cr_frame cr_origin cr_running cr_state cr_suspended ag_await ag_code "
    "ag_frame ag_running ag_state ag_suspended"
)
_CODE: Final = words(
    "co_argcount co_cellvars co_code co_consts co_exceptiontable co_filename co_firstlineno co_flags "
    "co_freevars "
    "co_kwonlyargcount co_lines co_linetable co_lnotab co_name co_names co_nlocals co_positions "
    "co_posonlyargcount co_qualname co_stacksize co_varnames co_branches cell_contents"
)

DENIED_ATTRIBUTES: Final = MappingProxyType(
    {
        **{name: Refusal("it leads to the interpreter's frames", "remove it") for name in _FRAMES},
        **{name: Refusal("it leads to compiled code", "remove it") for name in _CODE},
        **{
            name: Refusal("a format string can walk from object to object", "write an f-string")
            for name in ("format", "format_map")
        },
        "mro": Refusal("it leads to the base classes of the interpreter", "use isinstance(x, Class)"),
        "obj": Refusal("on exceptions it leads back to the object that failed", "use another name"),
        "name_from": Refusal("versions before 3.12 do not have it", "use name"),
        "with_traceback": Refusal(
            "tracebacks lead to the interpreter's frames", "raise the exception as it is"
        ),
        "add_note": Refusal("notes outlive the handler", "raise a new exception with the whole text"),
        **{
            name: Refusal("generators are resumed by loops only", "pass values through an argument or a list")
            for name in ("send", "throw", "close")
        },
        **{
            name: Refusal("it belongs to the inside of a property", "write a method")
            for name in ("fget", "fset", "fdel", "getter", "setter", "deleter")
        },
        **{
            name: Refusal("it belongs to the inside of a partial function", "use another name")
            for name in ("func", "keywords")
        },
        **{
            name: Refusal("exception groups are not part of the language", "raise one exception")
            for name in ("exceptions", "subgroup", "derive")
        },
    }
)

# Loaded through a guard that charges for the work, in every position. Names that
# mean something on a builtin type; on any other object the guard loads them as they are.
COSTED_ATTRIBUTES: Final = frozenset(
    words(
        # text and bytes
        "join replace center ljust rjust zfill expandtabs translate encode decode split rsplit "
        "splitlines partition "
        "rpartition upper lower title capitalize casefold swapcase strip lstrip rstrip find rfind "
        "startswith endswith "
        "removeprefix removesuffix hex maketrans fromhex isalnum isalpha isascii isdecimal isdigit "
        "isidentifier "
        "islower isnumeric isprintable isspace istitle isupper "
        # lists and tuples
        "extend sort index rindex count insert remove reverse copy "
        # dicts
        "update fromkeys get setdefault pop popitem clear isdisjoint mapping "
        # numbers
        "from_bytes to_bytes bit_count as_integer_ratio is_integer"
    )
)
# Those of them that read a text once, whatever the arguments: on a short one they are loaded as they are.
SCANNING_ATTRIBUTES: Final = frozenset(
    words(
        "upper lower title capitalize casefold swapcase removeprefix removesuffix "
        "isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
        "istitle isupper"
    )
)
# Called directly with short literals or nothing, these read a short text once as well.
SOUGHT_ATTRIBUTES: Final = frozenset(
    words("split rsplit partition rpartition strip lstrip rstrip find rfind index rindex count")
)
EDGE_ATTRIBUTES: Final = frozenset({"startswith", "endswith"})
# Called directly, these cost what they look like once their first argument is checked as a key.
KEYED_ATTRIBUTES: Final = frozenset({"get", "setdefault"})

# ---- names -----------------------------------------------------------------------

_RUNS_TEXT = Refusal("text is never run as code", "write the code itself, or a dict of functions")
_INSIDE = Refusal("it reaches into the interpreter", "keep what you need in a dict of your own")
_PROCESS = Refusal("it differs from one run to the next", "use a field of your own, such as an id")
_ENDING = Refusal("functions cannot end the process or catch its end", "catch Exception, or return")

REFUSED_NAMES: Final = MappingProxyType(
    {
        "eval": _RUNS_TEXT,
        "exec": _RUNS_TEXT,
        "compile": _RUNS_TEXT,
        "open": Refusal("functions cannot touch files", "use ctx.storage"),
        "input": Refusal("nobody is at the keyboard", "take an argument"),
        "type": Refusal("classes lead to the interpreter", "use isinstance(x, Class)"),
        "object": Refusal("it leads to every class of the interpreter", "leave it out: class Name: ..."),
        "super": Refusal(
            "it leads to the base classes of the interpreter", "call super().method(...) in a method"
        ),
        "vars": _INSIDE,
        "dir": _INSIDE,
        "globals": _INSIDE,
        "locals": _INSIDE,
        "setattr": Refusal("attributes are written by name", "write x.name = value, or use a dict"),
        "delattr": Refusal("attributes are deleted by name", "write del x.name, or use a dict"),
        "id": _PROCESS,
        "hash": Refusal("it differs from one run to the next", "use hashlib.sha256(...).hexdigest()"),
        "memoryview": Refusal("it is a window into memory", "use bytes"),
        "bytearray": Refusal("it changes under readers", "use bytes, or a list of numbers"),
        "breakpoint": Refusal("there is no terminal", "use print(...), or tidewell debug"),
        "help": Refusal("there is no terminal", "use print(...)"),
        "exit": _ENDING,
        "quit": _ENDING,
        "property": Refusal("it runs code when an attribute is read", "write a method"),
        "classmethod": Refusal("classes are plain", "write a function beside the class"),
        "staticmethod": Refusal("classes are plain", "write a function beside the class"),
        "slice": Refusal("a slice is written with brackets", "write x[a:b]"),
        "complex": Refusal("complex numbers are not values", "keep the two parts"),
        "ascii": Refusal("it shows objects as text in a second way", "use repr(x)"),
        "aiter": Refusal("functions are synchronous", "use iter"),
        "anext": Refusal("functions are synchronous", "use next"),
        **dict.fromkeys(
            (
                "BaseException",
                "SystemExit",
                "KeyboardInterrupt",
                "GeneratorExit",
                "MemoryError",
                "RecursionError",
            ),
            _ENDING,
        ),
        **{
            name: Refusal("exception groups are not part of the language", "raise one exception")
            for name in ("ExceptionGroup", "BaseExceptionGroup")
        },
    }
)

BUILTIN_TYPES: Final = ("bool", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple")
MAKERS: Final = (*BUILTIN_TYPES, "range")  # called by name, their constructors are reached without the face
BUILTIN_FUNCTIONS: Final = words(
    "abs all any bin callable chr divmod enumerate filter format getattr hasattr hex isinstance "
    "issubclass iter "
    "len map max min next oct ord pow print range repr reversed round sorted sum zip"
)
BUILTIN_CONSTANTS: Final = ("Ellipsis", "NotImplemented")
BUILTIN_EXCEPTIONS: Final = words(
    "ArithmeticError AssertionError AttributeError EOFError Exception FloatingPointError ImportError "
    "IndexError "
    "KeyError LookupError ModuleNotFoundError NameError NotImplementedError OSError OverflowError "
    "PermissionError "
    "RuntimeError StopIteration TimeoutError TypeError UnboundLocalError UnicodeDecodeError "
    "UnicodeEncodeError "
    "UnicodeError ValueError ZeroDivisionError"
)

# ---- imports ---------------------------------------------------------------------

FACADES: Final = words(
    "base64 collections collections.abc dataclasses datetime decimal functools hashlib hmac "
    "itertools json math "
    "random re statistics string textwrap time typing urllib.parse uuid"
)

_HOST = Refusal(
    "functions cannot touch the machine they run on", "use ctx, or pass what you need as an argument"
)
_NETWORK = Refusal("functions have no network", "use ctx.fetch in an action")
_PARALLEL = Refusal("a function is one sequence of steps", "use ctx.parallel in an action, or ctx.scheduler")
_INTERPRETER = Refusal("it reaches into the interpreter", "write plain code")
_SERIAL = Refusal("it builds objects from bytes", "use json")

REFUSED_MODULES: Final = MappingProxyType(
    {
        **dict.fromkeys(
            words("os sys io pathlib shutil tempfile glob platform locale getpass pwd signal"), _HOST
        ),
        **dict.fromkeys(words("fcntl mmap resource stat posix errno fileinput sysconfig site"), _HOST),
        **dict.fromkeys(
            words("socket ssl http urllib requests httpx aiohttp ftplib smtplib select"), _NETWORK
        ),
        **dict.fromkeys(words("threading multiprocessing asyncio trio concurrent queue sched"), _PARALLEL),
        **dict.fromkeys(words("subprocess contextvars"), _PARALLEL),
        **dict.fromkeys(
            words("ctypes gc inspect dis ast importlib types builtins code codeop"), _INTERPRETER
        ),
        **dict.fromkeys(words("traceback weakref abc atexit operator copyreg runpy pkgutil"), _INTERPRETER),
        **dict.fromkeys(words("pickle marshal shelve dbm sqlite3"), _SERIAL),
        "secrets": Refusal("a run must be repeatable", "use an action, or random"),
        "enum": Refusal("enum classes have a metaclass", "use constants, or typing.Literal"),
        "logging": Refusal("log lines belong to the call", "use print(...) or ctx.log"),
        "copy": Refusal("it runs code of the objects it copies", "use list(x), dict(x) or x[:]"),
        "struct": Refusal("it is not offered yet", "use int.to_bytes and int.from_bytes"),
        "zlib": Refusal("its cost cannot be told beforehand", "store the bytes as they are"),
        "gzip": Refusal("its cost cannot be told beforehand", "store the bytes as they are"),
        "calendar": Refusal("it is not offered yet", "use datetime"),
        "zoneinfo": Refusal("time zones differ from machine to machine", "use datetime with UTC"),
        "numpy": Refusal("compiled packages cannot be metered", "use lists and statistics"),
        "pandas": Refusal("compiled packages cannot be metered", "use lists and dicts"),
        "pydantic": Refusal("packages are not installed in functions", "use annotations or tidewell.v"),
        "attrs": Refusal("packages are not installed in functions", "use dataclasses"),
        "attr": Refusal("packages are not installed in functions", "use dataclasses"),
        "heapq": Refusal("it is not offered yet", "use sorted(...)"),
        "bisect": Refusal("it is not offered yet", "use a loop over the sorted list"),
    }
)


def module_problem(name: str) -> str | None:
    """Say why the module `name` cannot be imported, or None if it is a facade. User modules come before."""
    if name in FACADES or name == "tidewell" or name == "__future__":
        return None
    known = REFUSED_MODULES.get(name) or REFUSED_MODULES.get(name.partition(".")[0])
    if known is not None:
        return known.text(f"the module {name}")
    return Refusal("only the app's own modules and a few safe ones exist there", "see docs/language.md").text(
        f"the module {name}"
    )


# ---- constructs ------------------------------------------------------------------

CONSTRUCTS: Final = MappingProxyType(
    {
        "async": Refusal("a function is one sequence of steps", "write it without async and await"),
        "with": Refusal("context managers run code at uncontrolled times", "write try and finally"),
        "except*": Refusal("exception groups are not part of the language", "use except"),
        "@ between values": Refusal("there are no matrices", "use a function"),
        "type alias": Refusal("it is evaluated late", "write Name = ..."),
        "type parameter": Refusal("it is evaluated late", "leave the parameters out"),
        "template string": Refusal("its fields are evaluated by the receiver", "write an f-string"),
        "import *": Refusal("it hides which names are bound", "name what you import"),
        "relative import": Refusal(
            "the app's folder is the root of imports", "write from module import name"
        ),
        "import of a dotted module": Refusal(
            "it would bind the package", "write from package.module import name"
        ),
        "import inside a function": Refusal(
            "imports are resolved once", "move the import to the top of the file"
        ),
        "while … else": Refusal("it is not what most readers think", "set a flag before break"),
        "a chain with in": Refusal("it compares twice what looks like once", "join two comparisons with and"),
        "is": Refusal(
            "the identity of values differs between runs", "use == (is works with None, True, False, ...)"
        ),
        "return, break or continue inside finally": Refusal(
            "it would swallow a limit", "move it after the try"
        ),
        "yield inside try": Refusal(
            "clean-up code could run in a later call", "collect into a list, or yield outside"
        ),
        "await": Refusal("a function is one sequence of steps", "write it without async and await"),
        "class keyword": Refusal("metaclasses run code of their own", "leave it out"),
        "special method": Refusal(
            "it runs at uncontrolled times", "write an ordinary method (only __init__ is special)"
        ),
        "name with a leading underscore": Refusal(
            "such names belong to the runtime", "choose a name without it"
        ),
        "attribute with a leading underscore": Refusal(
            "such attributes lead into the interpreter",
            'use ordinary attributes (strings such as doc["_id"] are fine)',
        ),
        "% on text": Refusal("format codes can ask for any width", "write an f-string"),
        "dotted name as a key of a pattern": Refusal(
            "the interpreter hashes it without a guard", "write the key, or compare in an if"
        ),
        "dotted name inside a class pattern": Refusal(
            "the interpreter compares it without a guard",
            "capture the attribute, and compare in an if",
        ),
        "costed attribute in a pattern": Refusal(
            "the interpreter loads it without a guard", "match the object, then call the method"
        ),
        "yield from inside an expression": Refusal(
            "it is a loop, and has no value", "let it stand alone, or use a loop"
        ),
        "star inside a class pattern": Refusal(
            "it copies an attribute without a guard", "capture the attribute, and match it on its own"
        ),
        "star inside a nested target": Refusal("the items are pulled without a guard", "unpack in two steps"),
        "slice inside a tuple": Refusal("there are no arrays of several dimensions", "slice twice"),
        "augmented assignment to a slice": Refusal(
            "it writes twice what looks like once", "use extend, or assign the slice"
        ),
        "assignment inside a chain of comparisons": Refusal(
            "a chain is evaluated by the host", "join two comparisons with and"
        ),
        "unpacking in a comprehension": Refusal(
            "it is newer than the policy", "write a nested comprehension"
        ),
    }
)


def _digest() -> str:
    hasher = hashlib.sha256(str(VERSION).encode())
    limits = (
        SOURCE_BYTES_MAX,
        NODES_MAX,
        NESTING_MAX,
        INTEGER_BITS_MAX,
        TEXT_LENGTH_MAX,
        ITEMS_MAX,
        DEPTH_MAX,
    )
    tables: tuple[object, ...] = (
        limits,
        LAZY_DEPTH_MAX,
        sorted(DENIED_ATTRIBUTES),
        sorted(COSTED_ATTRIBUTES),
        sorted(SCANNING_ATTRIBUTES),
        sorted(SOUGHT_ATTRIBUTES),
        sorted(KEYED_ATTRIBUTES),
        sorted(EDGE_ATTRIBUTES),
        sorted(REFUSED_NAMES),
        sorted(BUILTIN_TYPES),
        sorted(BUILTIN_FUNCTIONS),
        sorted(BUILTIN_CONSTANTS),
        sorted(BUILTIN_EXCEPTIONS),
        sorted(FACADES),
        sorted(REFUSED_MODULES),
        sorted(CONSTRUCTS),
    )
    for table in tables:
        hasher.update(repr(table).encode())
    return hasher.hexdigest()


DIGEST: Final = _digest()
