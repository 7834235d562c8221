"""Starting a zygote: a clean command, an environment of its own, one socket.

Asked by the pool and by the doctor. Nothing of the engine's environment is
passed on, and no descriptor but the socket and standard error, where a zygote
that cannot even import its modules says so.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs

from sandbox import control
from sandbox.confinement.limits import Budgets

# Standard output is not used; the command is one line so that `ps` shows what it is.
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[2:]; from sandbox.zygote import main; main(int(sys.argv[1]))"
)
_HASH_SEED_MAX: Final = 4_294_967_295


@attrs.frozen
class Settings:
    """What the workers of one deployment are."""

    entry: str  # "package.module:function"
    argument: str = ""
    budgets: Budgets = attrs.field(factory=Budgets)
    mandatory: frozenset[str] = frozenset()  # layers, beside those that always are
    hash_seed: int | None = None  # random when None
    import_paths: tuple[str, ...] = ()  # searched before the engine's own
    with_namespaces: bool = True

    def begin(self) -> control.Begin:
        return control.Begin(
            entry=self.entry,
            argument=self.argument,
            memory_bytes=self.budgets.memory_bytes,
            cpu_life_s=self.budgets.cpu_life_s,
            mandatory=sorted(self.mandatory),
            with_namespaces=self.with_namespaces,
        )


def start_zygote(settings: Settings) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a zygote and tell it what to be. Return it with our end of its control socket.

    It dies with the thread that calls this, so that must be the one the engine lives on.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        started = subprocess.Popen(
            [sys.executable, "-s", "-P", "-c", _PROGRAM, str(os.getpid()), *_search_path(settings)],
            stdin=its.fileno(),
            stdout=subprocess.DEVNULL,
            env=_environment(settings),
            cwd="/",
            start_new_session=True,  # the terminal's Ctrl-C is the engine's to handle
        )
    except BaseException:
        ours.close()
        raise
    finally:
        its.close()
    ours.send(control.encode(settings.begin()))
    return started, ours


def _search_path(settings: Settings) -> list[str]:
    """The engine's search path, without entries that depend on the current folder."""
    ours = str(Path(__file__).resolve().parent.parent)
    others = (path for path in sys.path if os.path.isabs(path) and path != ours)
    return [*settings.import_paths, ours, *others]


def _environment(settings: Settings) -> dict[str, str]:
    """What the interpreter itself reads while it starts. The zygote empties it afterwards."""
    seed = settings.hash_seed
    if seed is None:
        seed = 1 + secrets.randbelow(_HASH_SEED_MAX)  # 0 would switch the seed off
    return {"LC_ALL": "C", "PYTHONUTF8": "1", "TZ": "UTC", "PYTHONHASHSEED": str(seed)}
