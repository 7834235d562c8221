"""The cost table: what bulk work charges, in steps, beside the step per item, test and entry.

A step is roughly 50 to 100 nanoseconds of work on the reference machine. The
version of this table (`meter.COST_VERSION`) goes into every record: fuel is
comparable between runs of one version only.
"""

from __future__ import annotations

from typing import Final

COPY_BYTES: Final = 512  # text and bytes copied per step
SCAN_BYTES: Final = 32  # text searched, split or changed per step
COPY_ITEMS: Final = 16  # items copied per step
INTEGER_BITS: Final = 256  # per step, linear work; products charge the product of both
ENTRY: Final = 1  # a function, a lambda, a handler, a test of `while`, an item
HASH_BYTES: Final = 64  # hashed per step
CLASS: Final = 100  # a class statement, a namedtuple
JSON_NODE: Final = 1  # value encoded or decoded
SORT_COMPARISON: Final = 1  # n * log2(n) of them are charged


def product_steps(left: int, right: int) -> int:
    """Return what digits cost that meet each other: products, quotients, integers as text. In bits."""
    long, short = (left, right) if left > right else (right, left)
    if long <= INTEGER_BITS or short < 0:
        return 0
    return (long // INTEGER_BITS) * (short // INTEGER_BITS + 1)


def sort_steps(count: int) -> int:
    return count * max(count.bit_length() - 1, 1) * SORT_COMPARISON // 2
