"""Values: what an argument, a document, a result or a cursor may hold.

A *canonical* value is built from exact types only: `None`, `bool`, `int`,
`float`, `Int64`, `str`, `bytes`, `list`, `dict`. Two canonical values are the
same value exactly if `pack` gives the same bytes, because

* a number that is integral and within ±2**53 is an `int`, any other a `float`
  (negative zero is a `float`, and there is one NaN);
* the keys of a dict stand in UTF-8 order.

`normalize` makes a canonical value from what user code hands over, and raises
with the path of whatever is not a value.

    canonical       kinds, limits, `normalize`, and sizes
    packed          the binary form
    json_forms      the wire form, the plain form, and the one text
"""

from tidewell.values.canonical import (
    ARRAY_LENGTH_MAX,
    COMMIT_TS,
    DEPTH_MAX,
    DOCUMENT_DEPTH_MAX,
    MISSING,
    NUMBER_INT_MAX,
    OBJECT_ENTRIES_MAX,
    CommitTs,
    Int64,
    Value,
    kind_of,
    normalize,
    number,
    object_of,
    short_text,
    size_bytes,
)
from tidewell.values.json_forms import (
    canonical_text,
    from_wire,
    parse_json,
    plain_json,
    to_wire,
    wire_json,
    wire_text,
)
from tidewell.values.packed import (
    pack,
    stamp,
    unpack,
    unpack_trusted,
)

__all__ = [
    "ARRAY_LENGTH_MAX",
    "COMMIT_TS",
    "DEPTH_MAX",
    "DOCUMENT_DEPTH_MAX",
    "MISSING",
    "NUMBER_INT_MAX",
    "OBJECT_ENTRIES_MAX",
    "CommitTs",
    "Int64",
    "Value",
    "canonical_text",
    "from_wire",
    "kind_of",
    "normalize",
    "number",
    "object_of",
    "pack",
    "parse_json",
    "plain_json",
    "short_text",
    "size_bytes",
    "stamp",
    "to_wire",
    "unpack",
    "unpack_trusted",
    "wire_json",
    "wire_text",
]
