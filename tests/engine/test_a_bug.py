"""The commands of docs/a-bug.md, run on the deployment that it tells of; its pictures show what they print.

`TIDEWELL_PICTURES=write pytest tests/engine/test_a_bug.py` draws the pictures anew.
"""

from __future__ import annotations

import html
import io
import os
import re
import shlex
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from engine.cli import main

from .deployed import call, deployed, write_app
from .lost_likes import BOB, PAGE, POSTS, Story, StoryChance, StoryClock, collide, lose_likes

IMAGES = PAGE.parent / "images"
TEXT = PAGE.read_text()
STEPS = re.findall(r"```sh\ntidewell (.+)\n```(?:(?:(?!```)[\s\S])*?!\[.*?\]\(images/(.+)\))?", TEXT)
# Fonts come from the machine that shows the picture, not from a server.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


MAY_DIFFER = "what-if"  # says so by its status


def fixed() -> str:
    """Return the functions with the edit that the page ends with."""
    edit = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    return re.sub(r"@mutation\ndef edit.*?\n\n\n", f"{edit}\n\n", POSTS, flags=re.DOTALL)


@attrs.frozen
class Told:
    folder: Path
    story: Story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("page")
    write_app(folder / "fixed", {"posts.py": fixed()})

    async def tell() -> Story:
        clock = StoryClock()
        async with deployed(folder, {"posts.py": POSTS}, clock=clock, chance=StoryChance()) as it:
            story = await lose_likes(it, clock)
            clock.pass_by(90)
            await it.deployment.mutate(call("posts:like", identity=BOB, post_id=story.post))
            clock.pass_by(30)
            other = await it.run("posts:write", text="Ferries")
            clock.pass_by(1)
            await collide(it, other, "Ferries to Cacilhas")
        return story

    story = trio.run(tell)
    (folder / "data").rename(folder / ".tidewell")
    return Told(folder, story)


def printed(line: str) -> str:
    """Run a command as on a terminal; return what it prints, colours included."""
    runner = CliRunner(env={"FORCE_COLOR": "1", "COLUMNS": "150", "TERM": "xterm-256color", "NO_COLOR": None})
    result = runner.invoke(main, shlex.split(line), color=True)
    assert result.exit_code == line.startswith(MAY_DIFFER), (line, result.output)
    return result.stdout.rstrip()


def picture(line: str, text: str) -> str:
    shown = [Text.from_ansi(each) for each in text.splitlines()]
    width = max(each.cell_len for each in shown) + 1
    console = Console(record=True, width=max(width, 60), file=io.StringIO(), force_terminal=True)
    for each in shown:
        console.print(each, soft_wrap=True, highlight=False)
    return console.export_svg(title=f"tidewell {line}", code_format=FORMAT, unique_id="terminal")


def words_of(svg: str) -> list[str]:
    """Return the lines of a picture without what differs from machine to machine: durations and steps."""
    pieces = re.findall(r'<text[^>]*?y="([\d.]+)"[^>]*>([^<]*)</text>', svg)
    lines: dict[str, str] = {}
    for y, piece in pieces:
        lines[y] = lines.get(y, "") + " " + html.unescape(piece).replace("\xa0", " ")
    masked = (re.sub(r"\d+(\.\d+)? (ms|steps)|\b\d{1,3}\b", "#", line) for line in lines.values())
    return [" ".join(line.split()) for line in masked]


def test_the_page_tells_of_this_app_and_these_commits(told: Told) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks[0] == POSTS
    assert set(re.findall(r"\b\d{19}\b", TEXT)) == {str(told.story.edited), str(told.story.likes[-1])}
    assert told.story.post in TEXT
    assert len(STEPS) >= 8


def test_the_commands_of_the_page_run_and_print_what_it_shows(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(told.folder)
    for line, image in STEPS:
        text = printed(line)
        if not image:
            continue
        drawn = picture(line, text)
        if os.environ.get("TIDEWELL_PICTURES") == "write":
            (IMAGES / image).write_text(drawn)
        kept = (IMAGES / image).read_text()
        assert words_of(kept) == words_of(drawn), f"{image} is out of date; see the head of this file"


def test_the_page_finds_the_cause(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(told.folder)
    [why] = [image for line, image in STEPS if line.startswith("why")]
    shown = "\n".join(words_of((IMAGES / why).read_text()))
    assert "same value in the argument post.likes" in shown
    assert "ctx.db.replace(post_id, post)" in shown
    assert (told.folder / "yesterday" / "store").is_dir(), "the fork that the page makes"
