"""The options that bound what clients may take: as the page shows them, and in force when they are given."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from engine.cli import main
from engine.hosting_options import read_hosting
from engine.shared_limits import MIB, SharedLimits

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()


@pytest.mark.parametrize("name", ["dev", "serve"])
def test_the_page_has_every_limit_with_its_default(name: str) -> None:
    shown = {
        option: int(default.replace(",", ""))
        for option, default in re.findall(r"^\| `(--max-[a-z-]+)` \| ([\d,]+)", PAGE, re.MULTILINE)
    }
    options = {
        param.opts[0]: param for param in main.commands[name].params if isinstance(param, click.Option)
    }
    assert shown == {option: param.default for option, param in options.items() if "--max-" in option}


def test_less_memory_for_all_is_less_for_one_socket_too() -> None:
    hosting = read_hosting(
        host="127.0.0.1",
        port=0,
        site_port=None,
        max_sockets=7,
        max_subscriptions=8,
        max_messages=20_000,
        max_message_bytes=2048,
        max_memory=16,
    )
    shared = hosting.shared_limits
    assert (shared.sockets_max, shared.subscriptions_max, shared.held_bytes_max) == (7, 8, 16 * MIB)
    assert hosting.session_limits.held_bytes_max == 16 * MIB
    assert shared.messages_burst / shared.messages_per_s == (
        SharedLimits().messages_burst / SharedLimits().messages_per_s
    )
