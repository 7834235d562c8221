"""What is exported comes back as it was: values, ids, creation times, indexes, schema."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import (
    Commit,
    InvalidExport,
    Store,
    StoreError,
    Transaction,
    export_store,
    import_store,
    transfer,
)
from tidewell.values import Int64, object_of, pack

from .harness import add_index, check, documents_at, insert, next_ts
from .strategies import values


def rich_store(path: Path, documents: list[dict[str, Any]]) -> None:
    with Store.open(path) as store:
        add_index(store, "posts", "by_n", "n")
        add_index(store, "users", "by_email", "email", unique=True)
        insert(store, "posts", *documents)
        insert(store, "users", {"email": "a@x"}, {"email": None})
        plan = store.catalog().plan()
        plan.create_table("gone")
        plan.create_table("_storage")
        plan.set_schema('{"some": "schema"}')
        store.commit(
            [
                Commit(
                    next_ts(store), catalog=plan.change(), private=((b"code/1", b"\x00\xff"), (b"tmp", b"t"))
                )
            ]
        )
        insert(store, "_storage", {"size": 1})
        plan = store.catalog().plan()
        plan.drop_table("gone")
        store.commit([Commit(next_ts(store), catalog=plan.change())])
        insert(store, "after", {"x": 1})


def contents(path: Path) -> dict[str, Any]:
    with Store.open(path, create=False) as store:
        check(store)
        catalog = store.catalog()
        return {
            "documents": {
                (name, index.name): [
                    pack(object_of(row)) for row in documents_at(store, None, name, index.name)
                ]
                for name, table in catalog.tables.items()
                for index in (table.by_id, *table.kept)
            },
            "numbers": {name: table.number for name, table in catalog.tables.items()},
            "schema": catalog.schema,
            "code": store.private_items(b"code/"),
        }


def bring_in(path: Path, folder: Path) -> None:
    with Store.open(path) as store:
        report = import_store(store, folder, now_ns=1000)
        assert report.ts == store.head_ts >= 1000
        assert store.private_get(transfer.PROGRESS_KEY) is None


def test_an_export_comes_back_as_it_was(tmp_path: Path) -> None:
    rich_store(
        tmp_path / "a", [{"n": number, "big": Int64(number), "raw": b"\x00"} for number in range(2500)]
    )
    seen: list[tuple[str, int, int]] = []
    report = export_store(
        tmp_path / "a", tmp_path / "export", private=[b"code/"], on_progress=lambda *each: seen.append(each)
    )
    assert (report.tables, report.documents) == (4, 2504)
    assert ("posts", 1000, 2500) in seen
    assert ("posts", 2500, 2500) in seen
    bring_in(tmp_path / "b", tmp_path / "export")
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    export_store(tmp_path / "b", tmp_path / "again", private=[b"code/"])
    for file in ("tables/posts.jsonl", "tables/users.jsonl", "private.jsonl"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "export" / file).read_bytes()


@given(documents=st.lists(st.dictionaries(st.sampled_from(["n", "m"]), values, max_size=2), max_size=5))
@settings(max_examples=15)
def test_every_value_survives(
    documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("transfer")
    rich_store(folder / "a", documents)
    export_store(folder / "a", folder / "export", private=[b"code/"])
    bring_in(folder / "b", folder / "export")
    assert contents(folder / "b") == contents(folder / "a")


def test_the_format_is_plain_json_lines(tmp_path: Path) -> None:
    rich_store(tmp_path / "a", [{"n": 1.5}])
    export_store(tmp_path / "a", tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("tidewell-export", 1)
    (posts,) = (table for table in manifest["tables"] if table["name"] == "posts")
    assert posts["indexes"] == [{"name": "by_n", "fields": ["n"], "unique": False}]
    (line,) = (tmp_path / "export" / posts["file"]).read_text().splitlines()
    document = json.loads(line)
    assert document["n"] == 1.5
    assert set(document) == {"_id", "_creationTime", "n"}
    assert (tmp_path / "export" / "private.jsonl").read_text() == ""


def test_a_live_store_is_exported_as_of_one_moment(tmp_path: Path) -> None:
    rich_store(tmp_path / "a", [{"n": 1}])
    code = "import sys; from storage import export_store; export_store(sys.argv[1], sys.argv[2])"
    with Store.open(tmp_path / "a") as store:
        insert(store, "posts", {"n": 2})
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "export")], check=True
        )
    assert len((tmp_path / "export" / "tables" / "posts.jsonl").read_text().splitlines()) == 2


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rich_store(tmp_path / "a", [{"n": number} for number in range(100)])
    export_store(tmp_path / "a", tmp_path / "export", private=[b"code/"])
    code = """
import os, signal, sys
from storage import Store, import_store, transfer
transfer.BATCH_DOCUMENTS = 10
def die(table, done, total):
    if (table, done) == ("posts", 60):
        os.kill(os.getpid(), signal.SIGKILL)
import_store(Store.open(sys.argv[1]), sys.argv[2], now_ns=1000, on_progress=die)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b"), str(tmp_path / "export")], check=False
    )
    assert result.returncode == -signal.SIGKILL
    with Store.open(tmp_path / "b") as store:
        assert len(documents_at(store, None, "posts")) == 60
        monkeypatch.setattr(transfer, "BATCH_DOCUMENTS", 7)
        import_store(store, tmp_path / "export", now_ns=1)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_an_import_needs_an_empty_store(tmp_path: Path) -> None:
    rich_store(tmp_path / "a", [])
    export_store(tmp_path / "a", tmp_path / "export")
    with Store.open(tmp_path / "a") as store, pytest.raises(StoreError, match="has tables already"):
        import_store(store, tmp_path / "export", now_ns=10**6)


def test_new_documents_and_tables_fit_in_after_an_import(tmp_path: Path) -> None:
    rich_store(tmp_path / "a", [{"n": 1}])
    export_store(tmp_path / "a", tmp_path / "export")
    bring_in(tmp_path / "b", tmp_path / "export")
    with Store.open(tmp_path / "b") as store:
        insert(store, "posts", {"n": 2})
        insert(store, "brand_new", {"n": 2})
        assert [row["n"] for row in documents_at(store, None, "posts", "by_n")] == [1, 2]
        with store.snapshot() as snapshot:
            assert Transaction(snapshot).count("brand_new") == 1
        check(store)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "line 2: body: malformed JSON"),
        (b"[]", "line 2: document: not an object"),
        (b'{"_id": "x", "_creationTime": 1}', "line 2: 'x' is not a document id"),
        (b'{"_id": "%s"}', "line 2: document: no _creationTime"),
        (b'{"_id": "%s", "_creationTime": 1, "$bad": 1}', "line 2"),
        (b'{"_id": "%s", "_creationTime": 1, "n": {"$integer": "x"}}', "line 2: document.n"),
        (b'{"_id": "%s", "_creationTime": 1}', "lines 1 to 2: .*twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    rich_store(tmp_path / "a", [{"n": 1}, {"n": 2}])
    export_store(tmp_path / "a", tmp_path / "export")
    file = tmp_path / "export" / "tables" / "posts.jsonl"
    first = file.read_bytes().splitlines()[0]
    file.write_bytes(first + b"\n" + line.replace(b"%s", json.loads(first)["_id"].encode()) + b"\n")
    with Store.open(tmp_path / "b") as store, pytest.raises(InvalidExport, match=complaint):
        import_store(store, tmp_path / "export", now_ns=1)


_TABLE = {"name": "t", "number": 10001, "documents": 0, "indexes": []}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": "other"}, "other version 1"),
        ({"version": 2}, "version 2"),
        ({"extra": 1}, "unknown field"),
        (
            {"tables": [{"name": "t", "number": 10001, "file": "../x", "documents": 0, "indexes": []}]},
            "outside",
        ),
        (
            {"tables": [{"name": "t", "number": 10001, "file": "x", "documents": 0, "indexes": []}]},
            "No such file",
        ),
        (
            {
                "tables": [
                    {"name": "t", "number": 10001, "file": "manifest.json", "documents": 0, "indexes": []}
                ]
            },
            "line 1",
        ),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    rich_store(tmp_path / "a", [])
    export_store(tmp_path / "a", tmp_path / "export")
    file = tmp_path / "export" / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with Store.open(tmp_path / "b") as store, pytest.raises(InvalidExport, match=complaint):
        import_store(store, tmp_path / "export", now_ns=1)


def test_an_unfinished_export_is_no_export(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "export")
    with Store.open(tmp_path / "b") as store, pytest.raises(InvalidExport, match="no finished export"):
        import_store(store, tmp_path / "export", now_ns=1)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", b'{"\xffformat": 1}'),
        ("manifest.json", b"[" * 100_000),
        ("private.jsonl", b"[" * 100_000),
        ("tables/posts.jsonl", b'"\xff"'),
        ("tables/posts.jsonl", b"[" * 100_000),
    ],
)
def test_bytes_that_nobody_exports_are_refused_by_name(tmp_path: Path, file: str, content: bytes) -> None:
    """What was no UTF-8, or nested without end, ended the command with a traceback."""
    rich_store(tmp_path / "store", [{"n": 1}])
    export_store(tmp_path / "store", tmp_path / "export", private=[b"code/"])
    (tmp_path / "export" / file).write_bytes(content)
    with Store.open(tmp_path / "fresh") as store, pytest.raises(InvalidExport, match=Path(file).name):
        import_store(store, tmp_path / "export", now_ns=1)


def test_a_table_in_a_file_that_cannot_be_named_is_refused(tmp_path: Path) -> None:
    rich_store(tmp_path / "store", [{"n": 1}])
    export_store(tmp_path / "store", tmp_path / "export")
    manifest = tmp_path / "export" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("tables/posts.jsonl", "tables/\\u0000.jsonl"))
    with Store.open(tmp_path / "fresh") as store, pytest.raises(InvalidExport, match="outside of the export"):
        import_store(store, tmp_path / "export", now_ns=1)
