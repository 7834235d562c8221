"""Runs a Python program as a user without any privilege. `python as_nobody.py PROGRAM ARG…`, as root.

An interpreter below a closed home folder is made reachable in a mount namespace
of this process alone; nothing outside changes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from sandbox.confinement.system import mount, unshare

NEW_MOUNT_NAMESPACE = 0x0002_0000
MS_BIND = 1 << 12
MS_PRIVATE_RECURSIVE = (1 << 18) | (1 << 14)
NOBODY = 65_534


def make_reachable(folder: Path) -> None:
    closed = next((each for each in (*reversed(folder.parents), folder) if not each.stat().st_mode & 1), None)
    if closed is None:
        return
    with tempfile.TemporaryDirectory() as aside:
        mount(os.fsencode(folder), os.fsencode(aside), None, MS_BIND, None)
        mount(b"none", os.fsencode(closed), b"tmpfs", 0, b"mode=755")
        folder.mkdir(parents=True, exist_ok=True)
        mount(os.fsencode(aside), os.fsencode(folder), None, MS_BIND, None)
        mount(b"none", os.fsencode(aside), b"tmpfs", 0, b"mode=755")
        os.chdir("/")
        unmounted = os.spawnlp(os.P_WAIT, "umount", "umount", "-l", aside, aside)
        assert unmounted == 0, unmounted


def main() -> None:
    unshare(NEW_MOUNT_NAMESPACE)
    mount(b"none", b"/", None, MS_PRIVATE_RECURSIVE, None)
    make_reachable(Path(sys.base_prefix).resolve())
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


if __name__ == "__main__":
    main()
