"""Where generated files come from and where they go: a worker's analysis, a folder.

The analysis is that of a push, made by a push: into a deployment that is empty and
lasts as long as this takes. So the code meets just what it would meet on a server,
a broken app is told the same, and this process never looks at the source.

A file whose text would not change is not touched, so that tools that watch the
folder have nothing to do.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import trio

from engine.app_folder import read_app_folder
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion
from engine.deployment import open_deployment
from sandbox.analysis import Analysis


async def describe_app(app: Path, clock: Clock, chance: Chance) -> Analysis:
    """Return what a push of the app in `app` says of it. Raises what `compile_app` raises."""
    return (await compile_app(app, clock, chance)).described


async def compile_app(app: Path, clock: Clock, chance: Chance) -> CodeVersion:
    """Return the code version that a push of the app in `app` would make.

    Raises:
      InvalidAppFolder, PushFailed: what a push raises, in a group if workers were at work.
    """
    modules = read_app_folder(app)
    with tempfile.TemporaryDirectory(prefix="tidewell-") as folder:
        deployment = open_deployment(Path(folder), clock=clock, chance=chance, on_execution=lambda *_: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(deployment.run)
            try:
                pushed = await deployment.push(modules, lambda _: None)
            finally:
                deployment.close()
        return pushed.code


def outdated(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are not in `folder` with just this text."""
    return [name for name, text in files.items() if _read(folder / name) != text.encode()]


def write(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Bring `files` into `folder`, made if need be; return the names of those that had to be written.

    Raises:
      OSError: a file cannot be written; those before it are.
    """
    changed = outdated(folder, files)
    if changed:
        folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        # Whole or not at all: a compiler that watches must not see half a file.
        unfinished = folder / f".{name}.{os.getpid()}"
        try:
            unfinished.write_bytes(files[name].encode())
            unfinished.replace(folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
    return changed


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
