"""`tidewell why`: a value followed back to the calls, arguments and lines that made it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

from engine.cli import main

from .deployed import deployed
from .lost_likes import POSTS, Story, lose_likes

COPIES = """
from tidewell import mutation


@mutation
def name(ctx, name: str) -> str:
    return ctx.db.insert("people", {"name": name, "address": {"city": "Lisbon"}})


@mutation
def sign(ctx, person: str, post_id: str) -> None:
    signer = ctx.db.get(person)
    ctx.db.patch(
        post_id,
        {"signed": signer["name"]},
    )


@mutation
def move(ctx, person: str, city: str) -> None:
    ctx.db.patch(person, {"name": "x"})
    try:
        ctx.run_mutation("copies:fail", {"person": person})
    except Exception:
        pass
    ctx.db.patch(person, {"address": {"city": city}})
    ctx.db.patch(person, {"name": "Ada"})


@mutation
def fail(ctx, person: str) -> None:
    ctx.db.patch(person, {"address": {"city": "nowhere"}})
    raise ValueError("no")


@mutation
def forget(ctx, post_id: str) -> None:
    ctx.db.delete(post_id)
"""


@attrs.frozen
class Told:
    folder: Path
    story: Story
    person: str
    gone: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("why")

    async def tell() -> Told:
        async with deployed(folder, {"posts.py": POSTS, "copies.py": COPIES}) as it:
            story = await lose_likes(it)
            person = await it.run("copies:name", name="Ada Lovelace")
            await it.run("copies:sign", person=person, post_id=story.post)
            await it.run("copies:move", person=person, city="Porto")
            gone = await it.run("posts:write", text="Soon gone")
            await it.run("copies:forget", post_id=gone)
            return Told(folder, story, person, gone)

    return trio.run(tell)


def why(told: Told, line: str, data: str = "data") -> Result:
    return CliRunner().invoke(main, ["why", *shlex.split(line), "--data", str(told.folder / data)])


def steps(told: Told, line: str) -> list[dict[str, Any]]:
    result = why(told, f"{line} --json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_value_is_followed_to_the_first_call(told: Told) -> None:
    found = steps(told, f"{told.story.post} likes")
    assert [int(step["ts"]) for step in found] == [
        told.story.edited,
        *told.story.likes[::-1],
        told.story.written,
    ]
    assert [(step.get("before"), step["after"]) for step in found] == [
        (3, 1),
        (2, 3),
        (1, 2),
        (0, 1),
        (None, 0),
    ]
    assert [step["line"] for step in found] == [f"posts.py:{line}" for line in (21, 13, 13, 13, 6)]
    assert found[0]["text"] == "ctx.db.replace(post_id, post)"
    assert found[0]["sources"] == [{"argument": "post.likes"}]
    assert found[1]["sources"] == []


def test_people_read_it_newest_first(told: Told) -> None:
    result = why(told, f"{told.story.post} likes -n 2")
    lines = result.stdout.splitlines()
    assert lines[0] == f"likes of posts {told.story.post} is 1"
    assert lines[1].startswith(f"{told.story.edited}  ")
    assert lines[1].endswith("posts:edit  socket ada@example.org")
    assert lines[2] == "    3 -> 1"
    assert lines[3] == "    at posts.py:21  ctx.db.replace(post_id, post)"
    assert lines[4].startswith(
        '    with post={likes: 1, tags: ["lisbon"], text: "Trams in Lisbon!"}, post_id='
    )
    assert lines[5] == "    same value in the argument post.likes"
    assert lines[-1] == "and 3 earlier changes; -n shows them"


def test_copied_value_names_the_document_it_was_read_from(told: Told) -> None:
    [step] = steps(told, f"{told.story.post} signed")
    [source] = step["sources"]
    written = source.pop("written")
    assert (written["function"], written["line"]) == ("copies:name", "copies.py:7")
    assert written["sources"] == [{"argument": "name"}]
    assert source == {"document": told.person, "table": "people", "field": "name", "line": "copies.py:12"}
    assert step["line"] == "copies.py:13"
    lines = why(told, f"{told.story.post} signed").stdout.splitlines()
    assert f"    same value in name of people {told.person}, read at copies.py:12" in lines
    assert any(line.startswith("          at copies.py:7  return ctx.db.insert(") for line in lines)


def test_line_is_that_of_the_write_that_stayed_and_of_the_field_asked_for(told: Told) -> None:
    lines = COPIES.splitlines()
    city, name = (
        next(number for number, text in enumerate(lines, 1) if part in text)
        for part in ('{"city": city}', '{"name": "Ada"}')
    )
    assert steps(told, f"{told.person} address.city")[0]["line"] == f"copies.py:{city}"
    assert steps(told, f"{told.person} name")[0]["line"] == f"copies.py:{name}"


def test_without_lines_nothing_runs(told: Told) -> None:
    [step, *_] = steps(told, f"{told.story.post} likes --no-lines")
    assert (step["line"], step["after"]) == (None, 1)


def test_deleted_document_keeps_its_past(told: Told) -> None:
    lines = why(told, f"{told.gone} text --no-lines").stdout.splitlines()
    assert lines[0] == f"text of posts {told.gone} is gone"
    assert lines[1].endswith("copies:forget  socket")
    assert lines[2] == '    "Soon gone" -> missing'


def test_value_on_a_backup_is_followed_the_same_way(told: Told) -> None:
    copied = CliRunner().invoke(
        main, ["backup", str(told.folder / "copy"), "--data", str(told.folder / "data")]
    )
    assert copied.exit_code == 0
    line = f"{told.story.post} likes"
    assert why(told, line, "copy").stdout == why(told, line).stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "{post} like",
            "never had a field 'like'; its fields are _creationTime, _id, likes, signed, tags, text",
        ),
        ("posts likes", "is no document id"),
    ],
)
def test_what_cannot_be_followed_says_why(told: Told, line: str, words: str) -> None:
    result = why(told, line.format(post=told.story.post))
    assert result.exit_code == 1
    assert words in result.stderr
