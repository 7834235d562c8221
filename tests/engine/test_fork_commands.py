"""`tidewell fork`: a deployment as it was, and as it would be without one mutation."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

from engine.cli import main
from engine.history import read_commit
from engine.kept_claims import KnownClaims
from storage import SharedStore, Transaction
from tidewell.ids import decode_id

from .deployed import deployed
from .lost_likes import POSTS, Story, lose_likes

# Versions of the schema: an index comes, another goes, a third one is filled over documents.
SCHEMAS = [
    f"""
    from typing import Any
    from tidewell import Schema, table
    from tidewell import v

    schema = Schema(posts=table(v.any()){indexes})
    """
    for indexes in (
        '.index("by_text", "text")',
        '.index("by_text", "text").index("by_likes", "likes")',
        '.index("by_likes", "likes")',
    )
]
LATER = """
from tidewell import mutation, query


@query
def most_liked(ctx):
    return ctx.db.query("posts").with_index("by_likes").order("desc").first()


@mutation
def count(ctx) -> int:
    return ctx.db.query("posts").with_index("by_likes", lambda q: q.gte("likes", 2)).count()


@mutation
def note(ctx, text: str) -> str:
    return ctx.db.insert("notes", {"text": text})


@mutation
def tally(ctx) -> None:
    likes = sum(post["likes"] for post in ctx.db.query("posts").collect())
    ctx.db.insert("tallies", {"likes": likes})
"""


@attrs.frozen
class Told:
    folder: Path
    story: Story
    pushed: int  # the commit of the last push
    noted: int
    head: int


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("fork")

    async def tell() -> Told:
        async with deployed(folder, {"posts.py": POSTS, "schema.py": SCHEMAS[0]}) as it:
            story = await lose_likes(it)
            for schema in SCHEMAS[1:]:
                await it.push({"posts.py": POSTS, "schema.py": schema, "later.py": LATER})
            pushed = it.deployment.head_ts
            await it.run("posts:like", post_id=story.post)
            await it.run("later:note", text="first")
            noted = it.deployment.head_ts
            await it.run("later:tally")
            await it.run("posts:write", text="Another")
            return Told(folder, story, pushed, noted, it.deployment.head_ts)

    return trio.run(tell)


def fork(told: Told, line: str) -> Result:
    return CliRunner().invoke(main, ["fork", *shlex.split(line), "--data", str(told.folder / "data")])


def report(told: Told, line: str) -> dict[str, Any]:
    result = fork(told, f"{line} --json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_fork_is_the_state_as_of_then_and_can_be_served(told: Told, tmp_path: Path) -> None:
    at = told.story.likes[1]
    result = fork(told, f"--at {at} {tmp_path / 'was' / 'data'}")
    assert result.exit_code == 0, result.output
    assert f"Forked 1 document of 1 table as of commit {at}" in result.stdout

    async def serve() -> None:
        async with deployed(tmp_path / "was") as it:
            post = await it.value("posts:newest")
            assert (post["_id"], post["likes"], post["text"]) == (told.story.post, 2, "Trams!")
            assert it.deployment.head_ts == at
            assert "later:count" not in it.deployment.code.functions
            assert await it.run("posts:like", post_id=told.story.post) == 3
            assert (tmp_path / "was" / "data" / "admin-key").exists()

    trio.run(serve)
    original, forked = ((each / "data" / "admin-key").read_text() for each in (told.folder, tmp_path / "was"))
    assert original != forked


def test_fork_of_today_has_the_indexes_under_their_numbers(told: Told, tmp_path: Path) -> None:
    assert report(told, f"--at latest {tmp_path / 'x' / 'data'}")["documents"] == 4
    with SharedStore.open(told.folder / "data" / "store") as original:
        wanted = original.catalog()
    with SharedStore.open(tmp_path / "x" / "data" / "store") as forked:
        assert forked.catalog() == wanted
        assert forked.head_ts == told.head
    verified = CliRunner().invoke(main, ["verify", "--data", str(tmp_path / "x" / "data")])
    assert verified.exit_code == 0, verified.output

    async def serve() -> None:
        async with deployed(tmp_path / "x") as it:
            assert (await it.value("later:most_liked"))["likes"] == 2
            assert await it.run("later:note", text="more")

    trio.run(serve)


def test_moment_means_the_newest_commit_before_it(told: Told, tmp_path: Path) -> None:
    moment = told.story.edited + 1
    assert report(told, f"--at {moment} {tmp_path / 'a'}")["ts"] == str(told.story.edited)


def test_without_the_culprit_the_likes_are_back(told: Told) -> None:
    file = told.folder / "data" / "store" / "data.mdb"
    before = file.read_bytes()
    found = report(told, f"--without {told.story.edited}")
    assert file.read_bytes() == before, "the original is only read"
    assert found["leftOut"]["function"] == "posts:edit"
    assert [(each["function"], each["how"]) for each in found["changed"]] == [
        ("posts:like", ["writes", "result"]),
        ("later:tally", ["writes"]),
    ]
    posts, tally = sorted(found["documents"], key=lambda change: change["table"])
    assert posts["id"] == told.story.post
    assert {each["path"]: (each.get("before"), each.get("after")) for each in posts["differences"]} == {
        "likes": (2, 4),
        "tags[0]": ("lisbon", None),
        "text": ("Trams in Lisbon!", "Trams!"),
    }
    assert tally["differences"] == [{"path": "likes", "before": 2, "after": 4}]
    assert found["calls"] == 4


def test_people_are_told_and_the_state_can_be_kept(told: Told, tmp_path: Path) -> None:
    kept = tmp_path / "without" / "data"
    text = fork(told, f"--without {told.story.edited} {kept}").stdout
    assert "4 calls after it, 2 would have come out otherwise" in text
    assert "2 documents would be different" in text
    assert f"~ posts {told.story.post} (changed)\n      - likes: 2\n      + likes: 4" in text
    for line in ("verify", "replay --all"):
        checked = CliRunner().invoke(main, [*shlex.split(line), "--data", str(kept)])
        assert checked.exit_code == 0, checked.output
    with (
        SharedStore.open(kept / "store") as forked,
        SharedStore.open(told.folder / "data" / "store") as original,
    ):
        after = told.story.edited
        assert [entry.ts for entry in forked.log(after)] == [entry.ts for entry in original.log(after)]
        for entry in forked.log(after):
            record = read_commit(entry, KnownClaims(forked)).record
            was = original.log_entry(entry.ts)
            assert was is not None
            if record is not None and record.function == "later:note":
                assert entry.record == was.record, "nothing about it is different"
            elif record is not None and record.function == "posts:like":
                assert entry.record != was.record

    async def serve() -> None:
        async with deployed(tmp_path / "without") as it:
            assert (await it.value("later:most_liked"))["likes"] == 4

    trio.run(serve)


def test_what_depended_on_it_fails_and_says_how(told: Told) -> None:
    found = report(told, f"--without {told.story.written}")
    failed = [each for each in found["changed"] if each["how"] == ["fails"]]
    assert [each["function"] for each in failed] == [*["posts:like"] * 3, "posts:edit", "posts:like"]
    assert "NoneType" in failed[0]["message"]
    [gone] = [each for each in found["documents"] if each["id"] == told.story.post]
    assert gone["operation"] == "delete"


def test_tables_keep_their_numbers_without_the_call_that_made_them(told: Told) -> None:
    found = report(told, f"--without {told.noted}")
    assert found["changed"] == []
    [note] = found["documents"]
    assert (note["table"], note["operation"]) == ("notes", "delete")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "give one of --at WHEN and --without COMMIT"),
        ("--at latest --without latest x", "give one of"),
        ("--at latest", "needs the folder DIR"),
        ("--at yesterday x", "how long ago"),
        ("--at 1990-01-01 x", "is not kept: history begins at 1"),
        ("--at latest {folder}", "exists already; choose another folder"),
        ("--without {pushed}", "is no mutation; `tidewell log` lists"),
        ("--without 5", "there is no commit 5"),
    ],
)
def test_what_cannot_be_forked_says_why(told: Told, tmp_path: Path, line: str, words: str) -> None:
    result = fork(told, line.format(folder=tmp_path, pushed=told.pushed))
    assert result.exit_code != 0
    assert words in result.stderr
    assert not list(tmp_path.glob("*.partial"))


def test_fork_cut_short_leaves_nothing(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.fork._batches", fail)
    result = fork(told, f"--at latest {tmp_path / 'x'}")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_documents_are_those_of_the_snapshot(told: Told, tmp_path: Path) -> None:
    assert fork(told, f"--at {told.noted} {tmp_path / 'x'}").exit_code == 0
    with (
        SharedStore.open(told.folder / "data" / "store") as original,
        SharedStore.open(tmp_path / "x" / "store") as forked,
    ):
        for table in ("posts", "notes"):
            was = Transaction(original.snapshot(told.noted))
            now = Transaction(forked.snapshot())
            assert list(now.scan(table)) == list(was.scan(table))


async def test_deployment_that_is_served_is_asked_the_same_way(tmp_path: Path) -> None:
    async with deployed(tmp_path, {"posts.py": POSTS}) as it:
        story = await lose_likes(it)

        async def ask(line: str) -> list[Any]:
            command = [sys.executable, "-m", "engine", *shlex.split(line), "--json"]
            done = await trio.run_process(
                [*command, "--data", str(tmp_path / "data")], capture_stdout=True, check=True
            )
            return [json.loads(text) for text in done.stdout.splitlines()]

        [steps] = await ask(f"why {story.post} likes -n 1")
        assert (steps[0]["line"], steps[0]["after"]) == ("posts.py:21", 1)
        [without] = await ask(f"fork --without {story.edited}")
        assert [change["id"] for change in without["documents"]] == [story.post]
        assert await it.run("posts:like", post_id=story.post) == 2
        [forked] = await ask(f"fork --at latest {tmp_path / 'fork'}")
        assert forked["ts"] == str(it.deployment.head_ts)


def test_files_go_along(tmp_path: Path) -> None:
    files = """
        from tidewell import mutation, query


        @mutation
        def remove(ctx, id: str) -> None:
            ctx.storage.delete(id)


        @mutation
        def note(ctx) -> None:
            ctx.db.insert("notes", {})
        """

    async def tell() -> tuple[int, int, list[str]]:
        async with deployed(tmp_path, {"files.py": files, "posts.py": POSTS}) as it:
            await it.run("files:note")
            noted = it.deployment.head_ts
            ids = []
            for content in (b"first", b"second"):
                incoming = await it.deployment.files.begin()
                await incoming.write(content)
                ids.append(await incoming.finish(None, None))
            both = it.deployment.head_ts
            await it.run("files:remove", id=ids[0])
            (tmp_path / "data" / "files" / decode_id(ids[0])[1].hex()).unlink()  # as the sweep does
            return noted, both, ids

    noted, both, (_, stays) = trio.run(tell)

    def ask(line: str) -> Result:
        return CliRunner().invoke(main, ["fork", *shlex.split(line), "--data", str(tmp_path / "data")])

    now = ask(f"--at latest {tmp_path / 'now'}")
    assert now.exit_code == 0, now.output
    [name] = [path.name for path in (tmp_path / "now" / "files").iterdir()]
    assert name == decode_id(stays)[1].hex()
    assert (tmp_path / "now" / "files" / name).read_bytes() == b"second"
    assert "1 file of then have been deleted" in ask(f"--at {both} {tmp_path / 'then'}").stderr
    without = ask(f"--without {noted} {tmp_path / 'without'} --json")
    assert without.exit_code == 0, without.output
    assert json.loads(without.stdout)["changed"] == [], "the file is removed again"
    assert [path.name for path in (tmp_path / "without" / "files").iterdir()] == [name]
