"""`tidewell dev`: one deployment from a folder of functions, pushed again on every save.

The server answers while a push is under way or broken: the last good code stays in
force, and what is wrong is printed with file and line. Everything that is printed
goes through one `Report`, so that nothing else needs to know about terminals.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import attrs
import trio
import watchfiles

from engine.app_folder import (
    InvalidAppFolder,
    is_auth_file,
    is_module_file,
    is_settings_file,
    may_be_folder,
    read_app_folder,
    read_app_settings,
    read_auth,
)
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.collector import spare_the_event_loop
from engine.deployment import Deployment, open_deployment
from engine.hosting import Host, Hosting, Urls
from engine.push import PushFailed
from engine.report import Report

DEBOUNCE_MS: Final = 100  # editors write a file in several steps; a push sees the last


@attrs.frozen
class DevOptions:
    app: Path
    data: Path
    hosting: Hosting
    page: Path | None  # static files served at /


async def run_dev(options: DevOptions, report: Report) -> None:
    """Serve until SIGINT or SIGTERM, then end in order.

    Raises:
      StoreError, CannotListen, InvalidAppFolder: before anything was served; one line each.
    """
    # From the very first: a signal that comes before there is anything to end waits for its turn.
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await _serve(options, report, signals)
    report.stopped()


async def _serve(options: DevOptions, report: Report, signals: AsyncIterator[int]) -> None:
    read_app_folder(options.app)  # a wrong folder is told before a data folder is made for it
    spare_the_event_loop()
    clock, chance = SystemClock(), SystemChance()
    deployment = open_deployment(options.data, clock=clock, chance=chance, on_execution=report.execution)
    deployment.conflicts.on_report = report.conflict
    pusher = _Pusher(deployment, options.app, report)
    name = options.app.resolve().parent.name
    host = Host(deployment, options.hosting, report, clock, chance, name, options.page)

    async def push(nursery: trio.Nursery, urls: Urls) -> None:
        nursery.start_soon(pusher.watch)  # first: a save during the push counts
        await pusher.push()
        report.serving(str(options.app), urls.main, urls.site, options.data)

    await host.run(signals, push, on_stop=pusher.is_over.set)


@attrs.define(eq=False)
class _Pusher:
    """Brings the folder into force: once at the start, and again whenever it has changed."""

    deployment: Deployment
    app: Path
    report: Report
    # Ends the thread that waits for the folder; cancelling alone would wait for that thread's own time-out.
    is_over: trio.Event = attrs.field(factory=trio.Event, init=False)
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def push(self) -> None:
        async with self._turn:
            try:
                modules = await trio.to_thread.run_sync(read_app_folder, self.app)
                variables = {**os.environ, **self.deployment.environment.variables}
                auth = await trio.to_thread.run_sync(read_auth, self.app, variables)
                settings = await trio.to_thread.run_sync(read_app_settings, self.app)
                pushed = await self.deployment.push(modules, self.report.progress, auth, settings)
            except InvalidAppFolder as error:
                self.report.push_failed([str(error)], has_code=self.deployment.code is not None)
            except PushFailed as error:
                self.report.push_failed(error.problems, has_code=self.deployment.code is not None)
            else:
                self.report.pushed(pushed)

    async def watch(self) -> None:
        root = self.app.resolve()

        def is_relevant(_: watchfiles.Change, path: str) -> bool:
            changed = Path(path)
            kinds = (is_module_file, is_auth_file, is_settings_file, may_be_folder)
            return any(applies(root, changed) for applies in kinds)

        async for _ in watchfiles.awatch(
            root,
            watch_filter=is_relevant,
            step=DEBOUNCE_MS // 2,
            debounce=DEBOUNCE_MS * 4,
            stop_event=self.is_over,
        ):
            await self.push()
