"""The commands of docs/operating.md do what it says, one after another on one deployment."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable

from click.testing import CliRunner

from engine.cli import main
from storage import SharedStore

from .harness import ROOT, Server

DOCUMENT = ROOT / "docs" / "operating.md"
READERS = [["data", "tables"], ["data", "list"], ["data", "show"]]


def test_every_command_of_the_page_runs(serve: Callable[..., Server]) -> None:
    server = serve(ROOT / "examples" / "chat")
    known = {"ID": "", "TS": ""}
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 15

    def run(*words: str) -> str:
        where = ["--data", str(server.data)]
        if list(words[:2]) not in READERS:
            where += ["--url", server.url]
        done = CliRunner().invoke(main, [*words, *where])
        assert done.exit_code == 0, (words, done.output)
        return done.stdout

    for line in lines:
        filled = line.replace("ID", known["ID"]) if re.search(r"\bID\b", line) else line
        filled = re.sub(r"\bTS\b", known["TS"], filled)
        program, *words = shlex.split(filled)
        assert program == "tidewell"
        if words[:2] == ["push", "functions"]:
            words[1] = str(ROOT / "examples" / "chat" / "functions")
        printed = run(*words)
        assert printed or words[:2] == ["env", "list"], line
        if words[:2] == ["run", "channels:create"]:
            known["ID"] = json.loads(printed)
            with SharedStore.open(server.data / "store") as store:
                known["TS"] = str(store.head_ts)
    assert [channel["name"] for channel in json.loads(run("run", "channels:list"))] == ["art"]
