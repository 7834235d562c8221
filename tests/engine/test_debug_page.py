"""docs/debug.md: its app is deployed, its calls are made, its commands are run and say what it says.

Ids and times differ from run to run, and what a step costs may change with the cost table;
these are left out of the comparison.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from engine.debugging.panes import HELP

from .deployed import call, deployed
from .terminal import Terminal

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "debug.md").read_text()
COMMANDS = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Return (command, output) of each block; a command goes on while a quote is open."""
    found = []
    for first, rest in COMMANDS:
        command, output = first, rest
        while command.count("'") % 2:
            line, _, output = output.partition("\n")
            command += f"\n{line}"
        found.append((command, output))
    return found


def plain(text: str) -> str:
    text = re.sub(r"\b1\d{18}\b", "COMMIT", text)
    text = re.sub(r"\bj5[0-9a-z]{30}\b", "ID", text)
    text = re.sub(r"\b1\d{12}(\.\d+)?\b", "TIME", text)
    text = re.sub(r"^( +\d+) +\d+  ", r"\1 STEPS  ", text, flags=re.MULTILINE)  # of a trace
    text = re.sub(r"^ +[\d,]+ +[\d.]+% ", "SHARE ", text, flags=re.MULTILINE)  # of a profile
    return re.sub(r"\d+( of \d+)? steps", "STEPS", text).rstrip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder that the page speaks of, with `tidewell` and `python` on the path."""
    folder = tmp_path_factory.mktemp("page")
    app = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert app

    async def tell() -> None:
        async with deployed(folder, {"bills.py": app[1]}) as it:
            for line in re.findall(r"^tidewell run .*$", PAGE, re.MULTILINE):
                _, _, path, arguments = shlex.split(line)
                outcome = await it.deployment.mutate(call(path, **json.loads(arguments)))
                assert outcome.failure is None

    trio.run(tell)
    (folder / "data").rename(folder / ".tidewell")
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in (("tidewell", "-m engine"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("command", "output"), blocks(), ids=[command.split("\n")[0] for command, _ in blocks()]
)
def test_a_command_says_what_the_page_says(folder: Path, command: str, output: str) -> None:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-c", command], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert plain(ran.stdout) == plain(output)


def test_a_capsule_and_other_code_are_debugged_as_the_page_says(folder: Path) -> None:
    app = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert app
    (folder / "functions").mkdir()
    (folder / "functions" / "bills.py").write_text(
        app[1].replace("cents // len(among)", "-(-cents // len(among))")
    )
    script = re.search(r"^```sh\n(tidewell capsule .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert script
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    command = ["sh", "-e", "-c", script[1]]
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("share = 333") == 1
    assert ran.stdout.count("share = 334") == 1


def test_the_screen_is_as_the_page_shows_it(folder: Path) -> None:
    shown = re.search(r"^```screen\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown
    rows = shown[1].rstrip("\n").split("\n")
    with Terminal.running("debug", "latest", cwd=folder, rows=24, columns=120) as terminal:
        terminal.until("stop 1 of 15", "log, the latest first")
        screen = terminal.press("n" * 11, "stop 12 of 15", "11 inserted")
        assert terminal.leave("q") == 0
    assert plain("\n".join(rows)) == plain(screen)


def test_every_key_of_the_page_is_a_key() -> None:
    for key in re.findall(r"`(\S)`", PAGE.partition("| Keys | Go |")[2].partition("## As text")[0]):
        assert key in HELP
