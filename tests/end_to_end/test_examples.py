"""The examples are served as their READMEs say. Their own tests are beside them, in `examples/`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tidewell.client import AppError, BlockingClient

from .harness import DEADLINE_S, ROOT, Server

EXAMPLES = ROOT / "examples"


def test_the_chat_is_served_and_paged(serve: Callable[..., Server]) -> None:
    server = serve(EXAMPLES / "chat")
    with BlockingClient(server.url) as client:
        channel = client.mutation("channels:create", {"name": "general"})
        for text in ("a", "b", "c"):
            client.mutation("messages:send", {"channel": channel, "author": "ada", "text": text})
        options = {"numItems": 2, "cursor": None}
        page = client.query("messages:page", {"channel": channel, "paginationOpts": options})
        assert [message["text"] for message in page["page"]] == ["c", "b"]
        assert not page["isDone"]
        with pytest.raises(AppError) as refused:
            client.mutation("channels:create", {"name": "General"})
        assert refused.value.data["code"] == "TAKEN"


def test_the_bank_is_served_and_its_entries_hold_their_commits(serve: Callable[..., Server]) -> None:
    server = serve(EXAMPLES / "bank")
    with BlockingClient(server.url) as client:
        ada, bob = (client.mutation("accounts:open", {"owner": owner}) for owner in ("ada", "bob"))
        assert client.mutation("accounts:deposit", {"account": ada, "amount": 5}) == 5
        client.mutation("accounts:transfer", {"source": ada, "target": bob, "amount": 2})
        assert client.query("accounts:balance", {"account": bob}) == 2
        [entry] = client.query("accounts:statement", {"account": bob})
        assert entry["at"] > 10**18


def test_the_fuzzer_finds_nothing_in_the_bank() -> None:
    command = [
        sys.executable,
        "-m",
        "engine",
        "fuzz",
        "examples/bank/functions",
        "--seconds",
        "3",
        "--seed",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("readme", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_a_readme_names_folders_that_exist(readme: Path) -> None:
    named = re.findall(
        r"^(?:tidewell dev|tidewell fuzz|pytest) (examples/\S+)", readme.read_text(), re.MULTILINE
    )
    assert all((ROOT / path).is_dir() for path in named), named
