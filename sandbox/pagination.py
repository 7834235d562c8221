"""Pages: a part of a query between two cursors (function-semantics 10).

The first run of a page ends after `numItems` matches; its end goes into the journal,
and every later run of the same page reads up to that very end, however many rows
are there by then. So neighbouring pages never overlap and never leave a gap.

Invariants:

* the same snapshot, cursor and journal give the same page and the same journal;
* at least one row is consumed before a soft limit stops a page;
* `isDone` is true exactly when the page's end is the end of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from sandbox.cursors import END, Position
from sandbox.transaction import Document

SPLIT_ROWS: Final = 6_144  # a page of more rows should be split
SPLIT_SHARE: Final = 0.75  # of a limit

# (start after, stop at) -> rows in the order of the query, each with its key
Scan = Callable[[bytes | None, bytes | None], Iterator[tuple[bytes, Document]]]


@attrs.frozen
class PageRequest:
    """Args:
    start: rows after this position; None is the beginning.
    end: the fixed end of the page, None to stop after `items` matches.
    rows_max, bytes_max: soft limits, counted before the filters.
    """

    items: int
    start: Position | None
    end: Position | None
    rows_max: int
    bytes_max: int


@attrs.frozen
class Page:
    documents: list[Document]
    end: Position
    split: bytes | None
    status: str | None


def read_page(
    request: PageRequest,
    scan: Scan,
    matches: Callable[[Document], bool],
    bytes_read: Callable[[], int],
) -> Page:
    """Read one page. `bytes_read` is the running total of the transaction."""
    if request.start is END:
        return Page([], END, None, None)
    start = request.start
    stop_at = None if request.end is None or request.end is END else request.end
    bytes_before = bytes_read()
    keys: list[bytes] = []
    documents: list[Document] = []
    is_exhausted, is_limited = True, False
    for key, document in scan(start, stop_at):
        keys.append(key)
        if matches(document):
            documents.append(document)
        is_limited = len(keys) >= request.rows_max or bytes_read() - bytes_before >= request.bytes_max
        if is_limited or (request.end is None and len(documents) >= request.items):
            is_exhausted = False
            break
    if request.end is not None:
        end = request.end
    else:
        end = END if is_exhausted else keys[-1]
    return Page(
        documents,
        end,
        _middle(keys, end),
        _status(request, len(keys), bytes_read() - bytes_before, is_limited),
    )


def _middle(keys: list[bytes], end: Position) -> bytes | None:
    if not keys:
        return None
    middle = keys[(len(keys) - 1) // 2]
    return None if middle == end else middle


def _status(request: PageRequest, rows: int, size: int, is_limited: bool) -> str | None:
    if is_limited:
        return "SplitRequired"
    if rows > SPLIT_ROWS or rows > request.rows_max * SPLIT_SHARE or size > request.bytes_max * SPLIT_SHARE:
        return "SplitRecommended"
    return None
