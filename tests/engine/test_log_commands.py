"""`tidewell log`, `show`, `history` and `conflicts` on the data folder of a deployment that has stopped."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from engine.chance import SystemChance
from engine.cli import main

from .deployed import deployed
from .lost_likes import POSTS, Story, collide, lose_likes

STRANGE = "\x1b[31mred\x07"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Story]:
    """A deployment that has stopped: what `lose_likes` tells, and then a like that an edit overtakes."""
    folder = tmp_path_factory.mktemp("story")

    async def tell() -> Story:
        async with deployed(folder, {"posts.py": POSTS}) as it:
            story = await lose_likes(it)
            await collide(it, story.post, STRANGE)
            outcome = await it.mutate("posts:like", post_id=story.post[:-1] + "0")
            assert outcome.failure is not None
            return story

    return folder, trio.run(tell)


@pytest.fixture
def story(told: tuple[Path, Story], monkeypatch: pytest.MonkeyPatch) -> Story:
    folder, story = told
    monkeypatch.chdir(folder)
    return story


def run(line: str, data: str = "data") -> Result:
    return CliRunner().invoke(main, [*shlex.split(line), "--data", data])


def objects(line: str) -> list[dict[str, Any]]:
    result = run(f"{line} --json")
    assert result.exit_code == 0, result.output
    return [json.loads(text) for text in result.stdout.splitlines()]


def said(line: str) -> str:
    result = run(line)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_log_lists_calls_oldest_first(story: Story) -> None:
    lines = said("log").splitlines()
    assert lines[0].split()[:3] == ["commit", "time", "(UTC)"]
    assert [line.split()[0] for line in lines[2:7]] == [
        str(ts) for ts in (story.written, *story.likes, story.edited)
    ]
    assert "push of version" in lines[1]
    edited = next(line for line in lines if line.startswith(str(story.edited)))
    assert "posts:edit" in edited
    assert "socket ada@example.org" in edited
    assert edited.rstrip().endswith("~1")
    assert lines[-1].split()[-2:] == ["~1", "2"], "the last call took two attempts"


def test_log_counts_from_the_newest(story: Story) -> None:
    assert [found["function"] for found in objects("log -n 2")] == ["posts:edit", "posts:like"]


@pytest.mark.parametrize(
    ("options", "functions"),
    [
        ("--function posts:write", ["posts:write"]),
        ("--function 'posts:w*'", ["posts:write"]),
        ("--identity bob@", ["posts:like", "posts:like"]),
        ("--identity nobody", ["posts:edit", "posts:like"]),
        ("--identity carol", []),
        ("--function posts --identity ada", ["posts:write", "posts:like", "posts:edit"]),
        ("--until {likes[0]}", ["push", "posts:write", "posts:like"]),
        ("--since {edited}", ["posts:edit", "posts:edit", "posts:like"]),
        ("--since 2100-01-01", []),
        ("--document {post} --until {likes[0]}", ["posts:write", "posts:like"]),
        ("--table posts -n 1", ["posts:like"]),
        ("--table _conflicts", ["engine"]),
        ("--since {edited} --all", ["posts:edit", "posts:edit", "posts:like", "engine"]),
    ],
)
def test_log_is_filtered(story: Story, options: str, functions: list[str]) -> None:
    line = options.format(post=story.post, likes=story.likes, edited=story.edited)
    assert [found.get("function", found["kind"]) for found in objects(f"log {line}")] == functions


def test_log_tells_programs_everything(story: Story) -> None:
    [found] = objects(f"log --since {story.edited} --until {story.edited}")
    assert (found["ts"], found["kind"], found["caller"]) == (str(story.edited), "call", "socket")
    assert found["identity"]["email"] == "ada@example.org"
    assert found["args"]["post"] == {"likes": 1, "tags": ["lisbon"], "text": "Trams in Lisbon!"}
    assert found["documents"] == [{"id": story.post, "operation": "update"}]
    assert found["steps"] > 0
    assert found["durationMs"] > 0


def test_show_tells_a_commit_with_its_differences(story: Story) -> None:
    text = said(f"show {story.edited}")
    for line in ("- likes: 3", "+ likes: 1", '+ tags[0]: "lisbon"', '+ text: "Trams in Lisbon!"'):
        assert f"    {line}" in text
    assert f"~ posts {story.post} (changed)" in text
    assert 'email = "ada@example.org"' in text
    assert "  [LOG] 3 likes" in said(f"show {story.likes[-1]}"), "its log"


def test_show_tells_what_became_of_earlier_attempts(story: Story) -> None:
    [latest] = objects("show latest")
    assert latest["attempts"] == 2
    [lost] = latest["lostAttempts"]
    assert (lost["attempt"], lost["reason"]) == (1, "conflict")
    assert objects(f"show {lost['overtakenBy']}")[0]["function"] == "posts:edit"
    assert "overtaken by commit" in said("show latest")


def test_show_takes_the_start_of_an_execution_id(story: Story) -> None:
    [found] = objects(f"show {story.edited}")
    assert objects(f"show {found['execution'][:8]}") == [found]


def test_execution_id_that_begins_with_digits_alone_is_found(tmp_path: Path) -> None:
    """One in fifty does, if somebody types eight; it was taken for a timestamp that does not exist."""

    class Digits(SystemChance):
        def token(self, size_bytes: int) -> bytes:
            return b"\x12\x34\x56\x78" + super().token(size_bytes - 4)

    async def live() -> None:
        async with deployed(tmp_path, {"posts.py": POSTS}, chance=Digits()) as it:
            await it.run("posts:write", text="Trams")

    trio.run(live)
    shown = run("show 12345678 --json", str(tmp_path / "data"))
    assert json.loads(shown.stdout)["execution"].startswith("12345678"), shown.output
    missing = run("show 87654321", str(tmp_path / "data"))
    assert "there is no commit 87654321" in missing.output
    mistyped = run(f"show {10**25}", str(tmp_path / "data"))
    assert f"there is no commit {10**25}; the nearest is" in mistyped.output


def test_failed_attempts_are_listed_apart(story: Story) -> None:
    overtaken, failed = objects("log --failed")
    assert (overtaken["reason"], failed["reason"]) == ("conflict", "failed")
    assert [found["execution"] for found in objects("log --failed --function posts:like -n 1")] == [
        failed["execution"]
    ]
    lines = said("log --failed").splitlines()
    assert lines[0].split()[0] == "execution"
    assert "overtaken by commit" in lines[1]
    assert "failed: ArgumentValidationError" in lines[2]
    shown = said(f"show {failed['execution'][:12]}")
    assert "not committed\n  ArgumentValidationError: args.post_id" in shown
    assert objects(f"show {failed['execution']}") == [failed]
    assert run("log --failed --since 2100-01-01").stderr == "every attempt that is known of was committed\n"


def test_history_lists_versions_with_their_calls(story: Story) -> None:
    found = objects(f"history {story.post}")
    assert [int(each["ts"]) for each in found][:5] == [story.written, *story.likes, story.edited]
    assert [each["function"] for each in found][-1] == "posts:like"
    likes = [
        (each.get("before"), each.get("after"))
        for version in found
        for each in version["change"]["differences"]
        if each["path"] == "likes"
    ]
    assert likes == [(None, 0), (0, 1), (1, 2), (2, 3), (3, 1), (1, 2), (2, 3)]
    lines = said(f"history {story.post}").splitlines()
    assert lines[0].startswith(str(story.written))
    assert lines[0].endswith("posts:write  socket ada@example.org")
    assert "    - likes: 3" in lines


def test_conflicts_are_grouped_with_both_lines(story: Story) -> None:
    [found] = json.loads(said("conflicts --json"))
    assert found["times"] == 1
    newest = found["newest"]
    assert (newest["reader"]["line"], newest["writer"]["line"]) == ("posts.py:11", "posts.py:21")
    text = said("conflicts")
    assert "1 x  posts:like was overtaken by posts:edit" in text
    assert f"read     posts.by_id: _id = {story.post}  at posts.py:11" in text
    assert f"written  {story.post}  at posts.py:21" in text
    assert run("conflicts --since 2100-01-01").stderr == "No mutation was overtaken by another.\n"


def test_no_text_of_users_steers_the_terminal(story: Story) -> None:
    for line in ("log", "show latest", f"history {story.post}", "conflicts"):
        text = said(line)
        assert not set(text) & {"\x1b", "\x07"}, line
    assert "u001b[31mred" in said(f"history {story.post}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("log --data nowhere", "no store in nowhere"),
        ("log --table post", "the tables are _conflicts, posts"),
        ("log --document posts", "is no document id; `tidewell data list TABLE`"),
        ("log --since yesterday", "how long ago"),
        ("show 1", "the nearest is"),
        ("show 9999999999999999999", "the nearest is"),
        ("show abcdef0", "no execution abcdef0 was committed"),
        ("show it", "names no commit"),
        ("log --failed -f", "goes with --function"),
        ("history posts", "is no document id"),
    ],
)
def test_what_cannot_be_done_says_what_can(story: Story, line: str, words: str) -> None:
    arguments = shlex.split(line) if "--data" in line else [*shlex.split(line), "--data", "data"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert words in result.stderr
    assert not isinstance(result.exception, AssertionError)


def test_backup_is_read_like_the_original(story: Story) -> None:
    assert run("backup copy").exit_code == 0
    for line in ("log", "show latest", f"history {story.post}", "conflicts"):
        original, copy = run(line), run(line, "copy")
        assert (copy.exit_code, copy.stdout) == (0, original.stdout)


def test_what_a_person_edits_by_hand_is_in_the_log(tmp_path: Path) -> None:
    async def edit() -> tuple[str, int]:
        async with deployed(tmp_path, {"posts.py": POSTS}) as it:
            post = await it.run("posts:write", text="x")
            await it.deployment.own_writes.run(lambda edited: edited.replace(post, {"likes": 5}))
            return post, it.deployment.head_ts

    post, edited = trio.run(edit)
    data = str(tmp_path / "data")
    assert "edited by hand, or imported" in run("log", data).stdout.splitlines()[-1]
    assert "what       edited by hand, or imported" in run(f"show {edited}", data).stdout
    assert run(f"history {post}", data).stdout.splitlines()[4].endswith("edited by hand, or imported")
    why = run(f"why {post} likes -n 1", data).stdout
    assert "line unknown: not written by a function" in why


async def test_log_follows_a_deployment_that_runs(tmp_path: Path) -> None:
    async with deployed(tmp_path, {"posts.py": POSTS}) as it:
        command = [sys.executable, "-m", "engine", "log", "-f", "--json", "--data", str(tmp_path / "data")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            read = process.stdout.readline
            seen = [json.loads(await trio.to_thread.run_sync(read))["kind"]]
            for _ in range(2):
                await it.run("posts:write", text="x")
                seen.append(json.loads(await trio.to_thread.run_sync(read))["function"])
            process.send_signal(2)
            await trio.to_thread.run_sync(process.wait)
    assert seen == ["push", "posts:write", "posts:write"]
    assert process.returncode == 130
