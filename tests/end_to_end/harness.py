"""Processes of the end-to-end tests: the real server, and the clients that drive it.

Tests wait for lines that a process prints, never for time to pass. Every wait has the
same generous deadline, and one that is missed shows all that the process has printed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

import attrs

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
APPS = HERE / "apps"
WAYPOINT = ROOT / "examples" / "waypoint"

DEADLINE_S = 60.0  # for machines under load; nothing here takes a tenth of it on an idle one


@attrs.define(eq=False)
class Process:
    """A child process whose output can be waited for, line by line."""

    popen: subprocess.Popen[str]
    lines: list[str] = attrs.field(factory=list, init=False)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False)
    _readers: int = attrs.field(default=0, init=False)

    @classmethod
    def start(cls, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Self:
        popen = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **(env or {})},
        )
        process = cls(popen)
        for stream in (popen.stdout, popen.stderr):
            assert stream is not None
            process._readers += 1
            threading.Thread(target=process._read, args=(stream,), daemon=True).start()
        return process

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._readers -= 1
            self._changed.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def find(self, pattern: str, since: int = 0) -> re.Match[str] | None:
        """The first line from number `since` on in which the pattern is found."""
        return next(filter(None, (re.search(pattern, line) for line in self.lines[since:])), None)

    def count(self, pattern: str) -> int:
        return sum(1 for line in self.lines if re.search(pattern, line))

    def wait_for_line(self, pattern: str, since: int = 0) -> re.Match[str]:
        with self._changed:
            self._changed.wait_for(
                lambda: self.find(pattern, since) is not None or self._readers == 0, timeout=DEADLINE_S
            )
            found = self.find(pattern, since)
        assert found is not None, f"no line with {pattern!r} in:\n{self.output}"
        return found

    def tell(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def wait(self) -> int:
        """Wait until the process has ended and all of its output is here; return its exit code."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()  # a client that reads what to do ends here
        code = self.popen.wait(DEADLINE_S)
        with self._changed:
            assert self._changed.wait_for(lambda: self._readers == 0, timeout=DEADLINE_S), self.output
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.wait()

    def end(self) -> None:
        """Make sure that it is gone, whatever the test did with it."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait()


def dev_command(app: Path, data: Path, *options: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "engine", "dev", app, "--data", data, *options]


@attrs.define(eq=False)
class Server:
    """`tidewell dev` of one app, ready to be called at `url`."""

    app: Path
    data: Path
    options: tuple[str | Path, ...]
    process: Process = attrs.field(init=False)
    url: str = attrs.field(default="", init=False)

    def start(self) -> None:
        """Start on a free port, or on the port of the last time."""
        port = self.url.rpartition(":")[2] or "0"
        self.process = Process.start(dev_command(self.app, self.data, "--port", port, *self.options))
        self.url = self.process.wait_for_line(r"Tidewell is serving .* at (http://\S+:\d+)")[1]

    def kill(self) -> None:
        """Pull the plug: no signal handler, no flushing, no goodbye."""
        self.process.popen.kill()
        self.process.wait()
