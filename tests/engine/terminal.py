"""A real terminal for tests: the program on a pty, and an emulated screen behind it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pyte

ROWS, COLUMNS = 30, 120
PATIENCE_S = 60.0  # an outer limit, so that the suite survives; nothing waits this long


@attrs.define
class Terminal:
    _process: subprocess.Popen[bytes]
    _master: int
    _screen: pyte.Screen
    _stream: pyte.ByteStream

    @classmethod
    @contextmanager
    def running(
        cls, *arguments: str, cwd: Path | None = None, rows: int = ROWS, columns: int = COLUMNS
    ) -> Iterator[Terminal]:
        """Run `tidewell` with `arguments` on a terminal of its own, for the length of a block."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)
        screen = pyte.Screen(columns, rows)
        try:
            yield cls(process, master, screen, pyte.ByteStream(screen))
        finally:
            process.kill()
            process.wait()
            os.close(master)

    def screen(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def until(self, *shown: str) -> str:
        """Read until the screen shows all of `shown`, and return it."""
        while not all(text in self.screen() for text in shown):
            assert self._read(), f"the program has ended; its screen:\n{self.screen()}"
        return self.screen()

    def press(self, keys: str, *shown: str) -> str:
        os.write(self._master, keys.encode())
        return self.until(*shown)

    def leave(self, keys: str) -> int:
        """Press the keys that end the program, and return its status."""
        os.write(self._master, keys.encode())
        while self._read():
            pass
        return self._process.wait(PATIENCE_S)

    def _read(self) -> bool:
        assert select.select([self._master], [], [], PATIENCE_S)[0], self.screen()
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # how a pty says that nobody is on its other side
            return False
        if b"\x1b[6n" in data:  # where is the cursor?
            os.write(self._master, b"\x1b[1;1R")
        self._stream.feed(data)
        return bool(data)
