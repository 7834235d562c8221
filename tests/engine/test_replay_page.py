"""docs/replay.md: its app is deployed, its calls are made, its commands are run and say what it says.

Ids, times, sizes and steps differ from run to run, or with the cost table; they are left out of
the comparison.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from engine.cli import main

from .deployed import deployed

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "replay.md").read_text()
COMMANDS = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
APP, ROUNDED = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def plain(text: str) -> str:
    text = re.sub(r"\b1\d{18}\b", "COMMIT", text)
    text = re.sub(r"\bj[0-9a-z]{31}\b", "ID", text)
    text = re.sub(r"[\d,]+ (a second|bytes|steps)", r"N \1", text)
    return text.rstrip()


def rounded_down() -> str:
    line = next(line for line in APP.splitlines() if "paid = (" in line)
    return APP.replace(line, ROUNDED.rstrip("\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")

    async def tell() -> None:
        async with deployed(folder, {"shop.py": APP}) as it:
            for line in re.findall(r"^tidewell run .*$", PAGE, re.MULTILINE):
                _, _, path, args = shlex.split(line)
                await it.run(path, **json.loads(args))

    trio.run(tell)
    (folder / "data").rename(folder / ".tidewell")
    (folder / "rounded").mkdir()
    (folder / "rounded" / "shop.py").write_text(rounded_down())
    return folder


def test_page_has_commands() -> None:
    assert len(COMMANDS) == 6
    assert rounded_down() != APP


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_command_says_what_the_page_says(
    command: str, output: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    assert plain(result.stdout) == plain(output), result.output
    assert result.exit_code == (1 if "would have been different (" in output else 0)
