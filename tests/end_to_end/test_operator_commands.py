"""`tidewell env`, `data` and `push` on a deployment that is being served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from engine.cli import main
from storage import SharedStore

from .harness import Server

SCHEMA = """
from tidewell import Schema, table, v

schema = Schema(
    notes=table(text=str, likes=v.number(), big=v.optional(v.int64())).index("by_likes", "likes"),
)
"""
NOTES = """
from typing import Any

from tidewell import query


@query
def by_likes(ctx, least: int) -> Any:
    found = ctx.db.query("notes").with_index("by_likes", lambda q: q.gte("likes", least))
    return [note["text"] for note in found.collect()]


@query
def greeting(ctx) -> Any:
    return ctx.env.get("GREETING")


@query
def url(ctx) -> Any:
    return ctx.env["CONVEX_CLOUD_URL"]
"""


class Command(Protocol):
    def __call__(self, *words: str, input: str | None = None) -> Result: ...  # noqa: A002 - as in click


@pytest.fixture
def server(serve: Callable[..., Server], tmp_path: Path) -> Server:
    return serve(write(tmp_path / "app"))


@pytest.fixture
def tidewell(server: Server) -> Command:
    def call(*words: str, input: str | None = None) -> Result:  # noqa: A002 - as in click
        reads = words[:2] in [("data", "tables"), ("data", "list"), ("data", "show")]
        where = ["--data", str(server.data)] + ([] if reads else ["--url", server.url])
        return CliRunner().invoke(main, [*words, *where], input=input)

    return call


def write(app: Path, schema: str = SCHEMA, notes: str = NOTES) -> Path:
    app.mkdir(exist_ok=True)
    (app / "schema.py").write_text(schema)
    (app / "notes.py").write_text(notes)
    return app


def printed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result) -> str:
    assert result.exit_code == 1, result.output
    return result.stderr


def test_variables_are_set_listed_read_and_removed(tidewell: Command, server: Server) -> None:
    assert printed(tidewell("env", "list")) == ""
    assert printed(tidewell("env", "set", "GREETING", "hello there")) == "Set GREETING.\n"
    assert printed(tidewell("env", "set", "KEY=a=b")) == "Set KEY.\n"
    assert printed(tidewell("env", "set", "SECRET", input="from\nstdin\n")) == "Set SECRET.\n"
    assert printed(tidewell("env", "list")) == "GREETING=hello there\nKEY=a=b\nSECRET=from\nstdin\n"
    assert printed(tidewell("env", "get", "SECRET")) == "from\nstdin\n"
    assert printed(tidewell("run", "notes:greeting")) == '"hello there"\n'
    assert json.loads(printed(tidewell("run", "notes:url"))) == server.url
    assert printed(tidewell("env", "remove", "GREETING")) == "Removed GREETING.\n"
    assert printed(tidewell("run", "notes:greeting")) == "null\n"
    assert json.loads(printed(tidewell("env", "list", "--json"))) == {"KEY": "a=b", "SECRET": "from\nstdin"}
    assert "there is no environment variable 'GREETING'" in refused(tidewell("env", "get", "GREETING"))
    assert "there is no environment variable 'GREETING'" in refused(tidewell("env", "remove", "GREETING"))
    assert "is not a name for an environment variable" in refused(tidewell("env", "set", "1", "x"))


def test_documents_are_added_listed_filtered_shown_changed_and_deleted(tidewell: Command) -> None:
    ids = [
        printed(tidewell("data", "insert", "notes", json.dumps({"text": text, "likes": likes}))).strip()
        for text, likes in (("a", 3), ("b", 1), ("c", 2))
    ]
    assert printed(tidewell("run", "notes:by_likes", '{"least": 2}')) == '["c","a"]\n'

    def listed(*words: str) -> list[str]:
        return [
            note["text"] for note in json.loads(printed(tidewell("data", "list", "notes", *words, "--json")))
        ]

    assert listed() == ["a", "b", "c"]
    assert listed("--index", "by_likes", "--desc") == ["a", "c", "b"]
    assert listed("--where", "likes>=2", "--where", "text!=c") == ["a"]
    assert listed("--where", "text=b") == ["b"]
    assert listed("--limit", "1") == ["a"]
    assert len(printed(tidewell("data", "list", "notes", "--where", "likes>1")).splitlines()) == 2
    assert "notes" in printed(tidewell("data", "tables"))
    [summary] = [
        each for each in json.loads(printed(tidewell("data", "tables", "--json"))) if each["name"] == "notes"
    ]
    assert summary["documents"] == 3
    assert "by_likes(likes)" in summary["indexes"]

    printed(tidewell("data", "patch", ids[0], '{"likes": 9, "big": 5}'))
    shown = json.loads(printed(tidewell("data", "show", ids[0])))
    assert (shown["likes"], shown["big"], shown["_id"]) == (9, {"$integer": "BQAAAAAAAAA="}, ids[0])
    printed(tidewell("data", "patch", ids[0], "--remove", "big"))
    assert "big" not in json.loads(printed(tidewell("data", "show", ids[0])))
    printed(tidewell("data", "replace", ids[1], '{"text": "whole", "likes": 0}'))
    assert listed() == ["a", "whole", "c"]
    printed(tidewell("data", "delete", ids[1], ids[2]))
    assert printed(tidewell("run", "notes:by_likes", '{"least": 0}')) == '["a"]\n'


def test_a_document_is_changed_in_an_editor(
    tidewell: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = printed(tidewell("data", "insert", "notes", '{"text": "befor", "likes": 1}')).strip()
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/befor/after/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert printed(tidewell("data", "edit", note)) == f"Changed {note}.\n"
    assert json.loads(printed(tidewell("data", "show", note)))["text"] == "after"
    assert printed(tidewell("data", "edit", note)) == "Nothing changed.\n"


def test_documents_are_shown_as_of_a_commit(tidewell: Command, server: Server) -> None:
    note = printed(tidewell("data", "insert", "notes", '{"text": "old", "likes": 1}')).strip()
    before = head(server)
    printed(tidewell("data", "patch", note, '{"text": "new"}'))
    assert json.loads(printed(tidewell("data", "show", note, "--as-of", before)))["text"] == "old"
    assert "old" in printed(tidewell("data", "list", "notes", "--as-of", before))
    assert printed(tidewell("run", "notes:by_likes", '{"least": 0}', "--as-of", before)) == '["old"]\n'
    assert printed(tidewell("run", "notes:by_likes", '{"least": 0}')) == '["new"]\n'
    assert "must be a timestamp that this server has given out" in refused(
        tidewell("run", "notes:greeting", "--as-of", str(int(before) * 2))
    )
    assert "newest" in refused(tidewell("data", "show", note, "--as-of", str(int(before) * 2)))


def test_what_cannot_be_done_is_one_line(tidewell: Command) -> None:
    for words, told in (
        (["insert", "notes", '{"text": 1, "likes": 1}'], "notes.text: found the number 1, expected a string"),
        (["insert", "notes", '{"text": "a", "likes": 1, "_id": "x"}'], "notes._id: is a system field"),
        (["insert", "_storage", "{}"], "'_storage' is not a name for a table"),
        (["insert", "notes", "{"], "malformed JSON"),
        (["insert", "notes", "[1]"], "is one JSON object"),
        (["patch", "nonsense", "{}"], "'nonsense'"),
        (["list", "note"], "there is no table 'note'. Did you mean 'notes'?"),
        (["list", "notes", "--where", "text"], "'text' is not FIELD=VALUE"),
        (["list", "notes", "--index", "by_love"], "there is no index 'by_love' on the table 'notes'"),
    ):
        lines = refused(tidewell("data", *words)).splitlines()
        assert len(lines) == 1, lines
        assert told in lines[0], words


def test_a_push_switches_the_code_or_changes_nothing(tidewell: Command, tmp_path: Path) -> None:
    note = printed(tidewell("data", "insert", "notes", '{"text": "a", "likes": 1}')).strip()
    other = write(tmp_path / "other", notes=NOTES.replace("def greeting", "def salute"))
    told = printed(tidewell("push", str(other)))
    assert "Pushed 3 functions" in told
    assert printed(tidewell("run", "notes:salute")) == "null\n"
    assert "runs this version already" in printed(tidewell("push", str(other)))
    assert json.loads(printed(tidewell("push", str(other), "--json")))["changed"] is False

    stricter = write(tmp_path / "stricter", schema=SCHEMA.replace("text=str", "text=v.number()"))
    refusal = refused(tidewell("push", str(stricter)))
    assert f"notes {note}" in refusal
    assert "text" in refusal
    broken = write(tmp_path / "broken", notes="def (:\n")
    assert "notes.py:1" in refused(tidewell("push", str(broken)))
    assert "is not a folder" in refused(tidewell("push", str(tmp_path / "nowhere")))
    needy = write(tmp_path / "needy")
    (needy / "tidewell.toml").write_text('[env]\nKEY = "required"\n')
    assert "the environment variable KEY is not set" in refused(tidewell("push", str(needy)))
    assert printed(tidewell("run", "notes:salute")) == "null\n"

    without = write(
        tmp_path / "without",
        SCHEMA.replace('.index("by_likes", "likes")', ""),
        NOTES.replace("greeting", "salute"),
    )
    warned = tidewell("push", str(without))
    assert "the index by_likes of notes is no longer in the schema and was removed" in warned.stderr
    assert "by_likes (notes.py:9)" in warned.stderr


def test_only_the_holder_of_the_admin_key_may(server: Server, tmp_path: Path) -> None:
    (tmp_path / "admin-key").write_text("0" * 64)
    wrong = CliRunner().invoke(main, ["env", "list", "--url", server.url, "--data", str(tmp_path)])
    assert "is --data the folder of the deployment" in refused(wrong)
    none = CliRunner().invoke(main, ["env", "list", "--url", server.url, "--data", str(tmp_path / "nowhere")])
    assert "there is no admin key" in refused(none)
    nobody = CliRunner().invoke(main, ["env", "list", "--url", "http://127.0.0.1:9", "--data", str(tmp_path)])
    assert "is the deployment being served there?" in refused(nobody)


def head(server: Server) -> str:
    with SharedStore.open(server.data / "store") as store:
        return str(store.head_ts)


def test_a_run_is_explained(tidewell: Command) -> None:
    for status in ("miss", "hit"):
        result = tidewell("run", "notes:by_likes", '{"least": 0}', "--explain")
        assert result.exit_code == 0, result.output
        assert result.stdout == "[]\n"
        assert result.stderr.startswith(f"{status}: ")
    tidewell("data", "insert", "notes", '{"text": "new", "likes": 3}')
    told = tidewell("run", "notes:by_likes", '{"least": 0}', "--explain").stderr
    assert told.startswith("stale: ")
    assert "the engine itself" in told
