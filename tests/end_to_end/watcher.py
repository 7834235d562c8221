"""Drives `clients/watch.js`: subscriptions and mutations of the official client, one order at a time."""

from __future__ import annotations

import json
from typing import Any

from .harness import Process, Server


class Watcher:
    """A client on one or more connections that watches queries and calls mutations."""

    def __init__(self, server: Server, process: Process) -> None:
        self.server = server
        self.process = process
        self.sentinels = 0
        process.wait_for_line("^ready$")

    def watch(self, path: str, **arguments: Any) -> None:
        self.process.tell(json.dumps(["watch", path, arguments]))

    def mutate(self, path: str, **arguments: Any) -> None:
        since = len(self.process.lines)
        self.process.tell(json.dumps(["mutate", path, arguments]))
        self.process.wait_for_line("^done$", since)

    def saw(self, name: str, value: Any, connection: int = 0) -> None:
        """Wait until a subscription was given this value."""
        text = json.dumps(value, separators=(",", ":")).replace("[", r"\[").replace("]", r"\]")
        self.process.wait_for_line(f"^update {name}/{connection} {text}$")

    def runs(self, line: str) -> int:
        """How often the server has run a query that prints this line."""
        self.sentinels += 1
        self.mutate("books:say", text=f"sentinel {self.sentinels}")
        self.server.process.wait_for_line(rf"\bsentinel {self.sentinels}\b")
        return self.server.process.count(rf"\b{line} runs\b")
