"""The cost table: what bulk work charges, in steps, beside the step per item, test and entry.

A step is roughly 50 to 100 nanoseconds of work on the reference machine. The
version of this table (`meter.COST_VERSION`) goes into every record: fuel is
comparable between runs of one version only.
"""

from __future__ import annotations

import math
from typing import Final

COPY_BYTES: Final = 512  # text and bytes copied per step
SCAN_BYTES: Final = 32  # text searched, split or changed per step
SHORT_TEXT: Final = 128  # characters up to which a text is read in no time
COMPARED: Final = 512  # characters compared one by one per step
SHORT_SOUGHT: Final = 100  # characters; the interpreter looks for longer ones in a way that takes no longer
SHORT_PLACES: Final = 30_000  # compared one by one at worst, for what is shorter than that
LONG_PLACES: Final = 2_500  # and for what is longer
COPY_ITEMS: Final = 16  # items copied per step
WALK_ITEMS: Final = 8  # items of lists and tuples compared or hashed per step
TABLE_ITEMS: Final = 4  # keys put from one dict or set into another, or looked up in it, per step
HOLES: Final = 512  # removals after which a large dict is made anew, about
HOLES_BYTES: Final = 16 * 1024  # of a dict that is not large
REMOVED_ITEMS: Final = 8_192  # of a dict per step, for the share of a removal in that
RANGE_BITS: Final = 512  # of the ends of a range; its items are found by products and quotients
FLOAT_BITS: Final = 32  # of the exponent of a float that is written out, per step
FLOAT_DIGITS: Final = 16  # of a float that are asked for, per step
PARSED_DIGITS: Final = 8  # of a float that is read, per step
INTEGER_BITS: Final = 256  # per step, linear work; products charge the product of both
FREE_NODES: Final = 200  # of the tree, in one body: an everyday function or loop pays for its steps alone
NODES: Final = 16  # of a heavier body per step
ENTRY: Final = 1  # a function, a lambda, a handler, a test of `while`, an item
HASH_BYTES: Final = 64  # hashed per step
LAZY: Final = 2  # a generator or another lazy iterator made
FIELDS: Final = 2  # of a dataclass written, read or compared per step
SET: Final = 2  # made or filled by an operator or a method, whatever its size
CLASS: Final = 100  # a class statement, a namedtuple
JSON_NODE: Final = 2  # value encoded or decoded
SORT_COMPARISON: Final = 1  # n * log2(n) of them are charged


def product_steps(left: int, right: int) -> int:
    """Return what digits cost that meet each other: products, quotients, integers as text. In bits."""
    long, short = (left, right) if left > right else (right, left)
    if long <= INTEGER_BITS or short < 0:
        return 0
    return (long // INTEGER_BITS) * (short // INTEGER_BITS + 1)


def float_steps(number: float, digits: int = 0) -> int:
    """Return what the digits of a float cost: the further from one, the longer the integers inside."""
    return abs(math.frexp(number)[1]) // FLOAT_BITS + digits // FLOAT_DIGITS


def sort_steps(count: int) -> int:
    return count * max(count.bit_length() - 1, 1) * SORT_COMPARISON // 2


def backward_steps(size: int, sought: int) -> int:
    """Return what looking for `sought` characters from the end costs: each place compares all of them."""
    places = size - sought
    return size // SCAN_BYTES + (sought * places // COMPARED if places > 0 else 0)


def forward_steps(size: int, sought: int) -> int:
    """Return what looking for `sought` characters costs.

    The interpreter compares each place with all of them where the text is short or
    little longer than what is sought; elsewhere it takes time in proportion to the text.
    """
    places = min(size - sought, SHORT_PLACES if sought < SHORT_SOUGHT else LONG_PLACES)
    return size // SCAN_BYTES + (sought * places // COMPARED if places > 0 else 0)


def trim_steps(size: int, characters: int) -> int:
    """Return what trimming `size` characters costs: each is looked up among `characters`."""
    return (size + characters) // SCAN_BYTES + size * max(characters - 1, 0) // COMPARED
