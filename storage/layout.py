"""The map of the file: which named databases there are and what their rows look like.

Everything in a store is reached through these ten databases of one LMDB
environment. Integers in keys are big-endian, so that byte order is number order.
`ts` is the commit that wrote a row, `until` the commit that ended it.

    name              key                                value
    meta              b"format", b"head", ...            see `store.py`
    documents         table:4 id:16                      document row
    documents_history table:4 id:16 until:8              document row
    index             index:7 physical key               ts:8 [full key]
    index_history     index:7 physical key until:8       ts:8 [full key]
    log               ts:8                               log row, see `commit_log.py`
    catalog           ts:8                               full catalog or change, see `catalog.py`
    private           the engine's                       the engine's
    backfill          index:7                            progress row, see `backfill.py`
    garbage           until:8 kind:1 number:7            empty: a table or an index dropped at `until`

A *document row* is `format:1 ts:8 crc:4 body`; the checksum covers the document's
key, the timestamp and the body, so a row in the wrong place is noticed as well.

The newest version of a document lives in `documents` alone. When a commit
replaces or deletes it, the row moves unchanged to `documents_history` under the
timestamp of that commit. So a version is valid for `[ts, until)`, an insert costs
no history, no tombstones are needed, and the newest state is equally fast
whatever came before. Index entries do the same, with one difference: an update that
leaves an index key alone leaves the entry alone, so its `ts` is the commit since which
the document stands under that key.

Index keys have no limit, and LMDB's have (511 bytes). A key up to `KEY_WHOLE_MAX`
is its own physical key. A longer one is cut there, followed by a digest of the
whole, and the row keeps the full key. Rows whose cut keys are equal stand next
to each other in digest order; whoever scans sorts such a run by full key
(`scan.py`), which makes the order exact again. The full keys of one index are never
prefixes of each other (`keys.py`), so a suffix such as `until` does not disturb it.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final
from zlib import crc32

from storage.errors import StoreDamaged, Timestamp

FORMAT: Final = 1  # of the file as a whole; raised when an older version could not read it
DOCUMENT_FORMAT: Final = 1  # of a document row

META: Final = "meta"
DOCUMENTS: Final = "documents"
DOCUMENTS_HISTORY: Final = "documents_history"
INDEX: Final = "index"
INDEX_HISTORY: Final = "index_history"
LOG: Final = "log"
CATALOG: Final = "catalog"
PRIVATE: Final = "private"
BACKFILL: Final = "backfill"
GARBAGE: Final = "garbage"
DATABASES: Final = (
    META, DOCUMENTS, DOCUMENTS_HISTORY, INDEX, INDEX_HISTORY, LOG, CATALOG, PRIVATE, BACKFILL, GARBAGE,
)  # fmt: skip

LMDB_KEY_MAX: Final = 511  # of a stock build
KEY_WHOLE_MAX: Final = 472
DIGEST_BYTES: Final = 20
assert 7 + KEY_WHOLE_MAX + DIGEST_BYTES + 8 <= LMDB_KEY_MAX

ROW_HEADER_BYTES: Final = 13  # format:1 ts:8 crc:4

GARBAGE_INDEX: Final = b"i"
GARBAGE_TABLE: Final = b"t"

# ---- index numbers ---------------------------------------------------------------

BY_ID: Final = 0
BY_CREATION_TIME: Final = 1
INDEX_NUMBER_FIRST: Final = 2  # of the indexes that an app declares

# Table 0 has no documents. Its "indexes" are what transactions read of the catalog, so that
# a change of the catalog conflicts and invalidates like any other write.
CATALOG_TABLES: Final = 1  # key: a table's name
CATALOG_INDEXES: Final = 2  # key: a table's number, for all of its indexes
CATALOG_SCHEMA: Final = 3  # key: empty


def index_id_of(table: int, number: int) -> int:
    return table << 24 | number


def table_of(index_id: int) -> int:
    return index_id >> 24


# ---- keys ------------------------------------------------------------------------

_pack_table = struct.Struct(">I").pack
pack_ts = struct.Struct(">Q").pack
_unpack_ts = struct.Struct(">Q").unpack_from


def read_ts(data: bytes, offset: int = 0) -> Timestamp:
    ts: int = _unpack_ts(data, offset)[0]
    return ts


def table_prefix(table: int) -> bytes:
    return _pack_table(table)


def document_key(table: int, internal_id: bytes) -> bytes:
    return _pack_table(table) + internal_id


def index_prefix(index_id: int) -> bytes:
    return index_id.to_bytes(7, "big")


def physical_key(key: bytes) -> bytes:
    """Return what stands for an index key inside an LMDB key, without the index's prefix."""
    if len(key) <= KEY_WHOLE_MAX:
        return key
    return key[:KEY_WHOLE_MAX] + blake2b(key, digest_size=DIGEST_BYTES).digest()


def index_value(ts: Timestamp, key: bytes) -> bytes:
    return pack_ts(ts) + key if len(key) > KEY_WHOLE_MAX else pack_ts(ts)


# ---- document rows -----------------------------------------------------------------


def document_row(key: bytes, ts: Timestamp, body: bytes) -> bytes:
    stamp = pack_ts(ts)
    checksum = crc32(body, crc32(key + stamp))
    return b"\x01" + stamp + checksum.to_bytes(4, "big") + body


def row_checksum(row: bytes) -> int:
    return int.from_bytes(row[9:13], "big")


def row_body(key: bytes, row: bytes) -> bytes:
    """Return the packed document of a row of `documents` or `documents_history`.

    Args:
      key: the 20 bytes that name the document.

    Raises:
      StoreDamaged: the row is not what was written.
    """
    body = row[ROW_HEADER_BYTES:]
    if row[0] != DOCUMENT_FORMAT or crc32(body, crc32(key + row[1:9])).to_bytes(4, "big") != row[9:13]:
        raise StoreDamaged(
            f"the stored document {key.hex()} does not match its checksum; run verify and restore a backup"
        )
    return body
