"""`tidewell debug` on the data folder of a deployment that has stopped, in real workers."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

from engine.attempts import read_attempts
from engine.cli import main
from engine.debugging import recording
from sandbox.tracing.shape import InvalidTrace
from storage import SharedStore

from .deployed import call, deployed
from .lost_likes import POSTS, Story, lose_likes
from .terminal import Terminal

MORE = """
@mutation
def count(ctx, n: int) -> int:
    total = 0
    for i in range(n):
        total += i
    ctx.db.insert("counts", {"total": total})
    return total


@mutation
def refuse(ctx, n: int):
    ctx.db.insert("counts", {"total": n})
    raise ValueError(f"no such number as {n}")


@mutation
def hostile(ctx) -> str:
    name = "\\x1b[2J\\x07"
    held = []
    for i in range(40):
        held = [held, held, name * 1000]
    print(name)
    ctx.db.insert("names", {"name": name})
    return name
"""


@attrs.frozen
class Told:
    folder: Path
    story: Story
    counted: int
    hostile: int
    failed: str  # an execution


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("story")

    async def tell() -> Told:
        async with deployed(folder, {"posts.py": POSTS + MORE}) as it:
            story = await lose_likes(it)
            counted = await it.deployment.mutate(call("posts:count", n=30_000))
            hostile = await it.deployment.mutate(call("posts:hostile"))
            refused = await it.deployment.mutate(call("posts:refuse", n=3))
            assert refused.failure is not None
        with SharedStore.open(folder / "data" / "store") as store:
            [failed] = read_attempts(store)
        return Told(folder, story, counted.ts, hostile.ts, failed.record.execution)

    return trio.run(tell)


@pytest.fixture
def here(told: Told, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.chdir(told.folder)
    return told


def run(line: str) -> Result:
    return CliRunner().invoke(main, ["debug", *shlex.split(line), "--data", "data"])


def found(line: str) -> dict[str, Any]:
    result = run(f"{line} --json")
    assert result.exit_code == 0, result.output
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def test_a_trace_shows_lines_changes_documents_log_and_result(here: Told) -> None:
    result = run(f"{here.story.likes[1]} --trace")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"posts:like of commit {here.story.likes[1]}: 7 stops, ")
    wanted = [
        "call like (posts.py:10)",
        f"post_id = '{here.story.post}'",
        "posts.py:11  post = ctx.db.get(post_id)",
        f"read posts {here.story.post} ",
        'posts.py:12  likes = post["likes"] + 1',
        "likes = 2",
        'posts.py:13  ctx.db.patch(post_id, {"likes": likes})',
        f"wrote posts {here.story.post} ",
        "posts.py:15  return likes",
        "like returns 2 (posts.py:15)",
        "log: [LOG] 2 likes",
        "result: 2",
    ]
    position = 0
    for text in wanted:
        position = next(i for i in range(position, len(lines)) if text in lines[i])


def test_the_run_is_the_recorded_one(here: Told) -> None:
    for ts in (here.story.edited, here.hostile):
        trace = found(str(ts))
        assert trace["differs_in"] == []
        assert trace["steps"] == trace["recorded_steps"] > 0


def test_json_has_all_that_the_lines_have(here: Told) -> None:
    trace = found(str(here.story.likes[0]))
    assert [stop["kind"] for stop in trace["stops"]] == ["call", *["line"] * 5, "return"]
    assert trace["stops"][3]["changes"] == {"likes": "1"}
    assert [touch["kind"] for touch in trace["touches"]] == ["read", "read", "replace"]
    assert {touch["table"] for touch in trace["touches"]} == {"posts"}
    assert (trace["result"], trace["log"], trace["cut"]) == (1, ["[LOG] 1 likes"], None)


def test_a_long_run_is_cut_with_words_and_can_be_had_in_parts(here: Told) -> None:
    result = run(f"{here.counted} --trace")
    assert "Cut: this shows stops 1 to 20,000 of 60,006. --from 20001 shows what follows" in result.stdout
    last = found(f"{here.counted} --last 2")
    assert [stop["stop"] for stop in last["stops"]] == [60_005, 60_006]
    assert last["opening"][0]["variables"]["i"] == "29999"
    part = found(f"{here.counted} --from 100 --to 102")
    assert [stop["stop"] for stop in part["stops"]] == [100, 101, 102]
    assert part["cut"] == "window"


def test_a_profile_tells_which_line_took_the_steps(here: Told) -> None:
    result = run(f"{here.counted} --profile")
    first = result.stdout.splitlines()[1].split()
    assert first[0] == "30,000"
    assert first[2:] == ["30,001", *["posts.py:31", "for", "i", "in", "range(n):"]]


def test_a_hostile_function_neither_steers_the_terminal_nor_fills_it(here: Told) -> None:
    result = run(f"{here.hostile} --trace")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert "\\x1b[2J" in result.output
    assert len(result.output) < 100_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("12", "there is no commit 12"),
        ("nonsense", "names no commit"),
        ("latest", "there is no terminal here"),
        ("latest --trace --last 2 --from 3", "--last N is the end of the run"),
        ("latest --trace --from 3 --to 2", "--from 3 is behind --to 2"),
        ("latest --trace --from 999", "--from 999 is behind the last stop, "),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(here: Told, line: str, problem: str) -> None:
    result = run(line)
    assert result.exit_code == 1
    assert problem in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_mutation_that_failed_can_be_stepped_through(here: Told) -> None:
    trace = found(here.failed[:12])
    assert trace["differs_in"] == []
    assert trace["ts"] is None
    assert "ValueError: no such number as 3" in trace["error"]
    kinds = [(stop["kind"], stop["line"]) for stop in trace["stops"]]
    raised = next(stop for stop in trace["stops"] if stop["kind"] == "raise")
    assert raised["text"] == "ValueError: no such number as 3"
    assert kinds[-1][0] == "leave"
    result = run(f"{here.failed} --trace")
    assert f"posts:refuse of attempt 1 of execution {here.failed[:12]}: " in result.stdout


def test_a_capsule_can_be_stepped_through_without_a_database(here: Told, tmp_path: Path) -> None:
    file = tmp_path / "like.capsule"
    made = CliRunner().invoke(main, ["capsule", str(here.story.likes[1]), "-o", str(file), "--data", "data"])
    assert made.exit_code == 0, made.output
    trace = found(str(file))
    assert trace["differs_in"] == []
    assert trace["ts"] == str(here.story.likes[1])
    assert trace["result"] == 2


def test_other_code_can_be_stepped_through_on_the_same_call(here: Told, tmp_path: Path) -> None:
    (tmp_path / "posts.py").write_text(POSTS.replace('post["likes"] + 1', 'post["likes"] + 10'))
    trace = found(f"{here.story.likes[1]} --app {tmp_path}")
    assert (trace["result"], trace["differs_in"]) == (11, [])
    assert found(str(here.story.likes[1]))["result"] == 2


def test_a_run_that_takes_too_long_to_follow_is_given_up_in_one_line(
    here: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "CPU_S", 0.02)
    result = run(f"{here.counted} --trace")
    assert result.exit_code == 1
    assert "more processor time than the host allows, while it was followed line by line" in result.output
    assert result.output.count("\n") == 1


def test_a_worker_that_forges_a_trace_is_refused_in_one_line(
    here: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: bytes) -> NoReturn:
        raise InvalidTrace("stops outside of the run")

    monkeypatch.setattr(recording, "decode_trace", refuse)
    result = run(f"{here.story.written} --trace")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "broke the protocol: stops outside of the run" in result.output


async def test_a_deployment_that_is_written_meanwhile_is_not_disturbed(tmp_path: Path) -> None:
    async with deployed(tmp_path, {"posts.py": POSTS}) as it:
        story = await lose_likes(it)
        command = ["debug", str(story.likes[0]), "--json", "--data", str(tmp_path / "data")]
        ended = trio.Event()

        async def like() -> None:
            while not ended.is_set():
                await it.run("posts:like", post_id=story.post)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(like)
            ran = await trio.run_process([sys.executable, "-m", "engine", *command], capture_stdout=True)
            ended.set()
        trace = json.loads(ran.stdout)
        assert (trace["result"], trace["differs_in"]) == (1, [])
        assert await it.run("posts:like", post_id=story.post) > 2


# ---- in a terminal -------------------------------------------------------------------------


def test_a_person_steps_forwards_and_backwards_in_a_terminal(here: Told) -> None:
    with Terminal.running("debug", str(here.story.likes[0]), "--data", "data") as terminal:
        screen = terminal.until("stop 1 of 7", "log, the latest first")
        assert "▶  10  def like(ctx, post_id" in screen
        screen = terminal.press("sss", "stop 4 of 7")
        assert "likes = 1" in screen
        assert "▶  13      ctx.db.patch" in screen
        screen = terminal.press("S", "stop 3 of 7")
        assert "likes = 1" not in screen
        terminal.press("wposts\rc", "stop 4 of 7")
        screen = terminal.press("s", "stop 5 of 7")
        assert "wrote posts" in screen
        terminal.press("?", "on to the next break")
        terminal.press("q", "variables of like")
        assert terminal.leave("q") == 0
