"""`tidewell serve`: the deployment of a data folder, for production.

It serves the code that was pushed last, and takes pushes of whoever holds the admin key
(`tidewell push`). Errors and logs are for the operator: clients are told a request id,
under which the log has the rest, and the data of an `AppError`.
"""

from __future__ import annotations

import signal
from pathlib import Path

import attrs
import trio

from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.collector import spare_the_event_loop
from engine.deployment import open_deployment
from engine.hosting import Host, Hosting, Urls
from engine.report import Report


@attrs.frozen
class ServeOptions:
    data: Path
    hosting: Hosting
    page: Path | None = None
    fetch_private: bool = False


async def run_serve(options: ServeOptions, report: Report) -> None:
    """Serve until SIGINT or SIGTERM, then end in order.

    Raises:
      StoreError, CannotListen: before anything was served; one line each.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        spare_the_event_loop()
        clock, chance = SystemClock(), SystemChance()
        deployment = open_deployment(
            options.data,
            clock=clock,
            chance=chance,
            on_execution=report.execution,
            production=True,
            fetch_private=options.fetch_private,
        )
        host = Host(
            deployment,
            options.hosting,
            report,
            clock,
            chance,
            name=options.data.resolve().name,
            page=options.page,
        )

        async def tell(_: trio.Nursery, urls: Urls) -> None:
            report.serving(f"the deployment in {options.data}", urls.main, urls.site, options.data)
            if deployment.code is None:
                report.has_no_code(urls.main, options.data)

        await host.run(signals, tell)
    report.stopped()
