"""Reads every row of a store once: `python -m storage.probe FOLDER`.

Run as a process of its own, because a damaged file can end the process that maps it. Says nothing and
exits with 0 if every page could be read; `verify` does the thinking.
"""

from __future__ import annotations

import sys
from pathlib import Path

import attrs

from storage.environment import ReaderEnvironment


def probe(path: Path) -> int:
    """Return the number of rows."""
    reader = ReaderEnvironment.open(path)
    rows = 0
    with reader as view:
        for db in attrs.astuple(view.dbs, recurse=False):
            with view.cursor(db) as cursor:
                rows += sum(1 for _ in cursor.iternext())
    reader.close()
    return rows


if __name__ == "__main__":
    probe(Path(sys.argv[1]))
