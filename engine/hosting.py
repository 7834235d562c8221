"""What `tidewell dev` and `serve` share: one deployment behind a server, ended in order by signals."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

import attrs
import trio

from engine.admin_api import AdminApi
from engine.auth import Authenticator
from engine.backend import BackendFault
from engine.chance import Chance
from engine.clock import Clock
from engine.commands import SessionLimits
from engine.connection import MESSAGE_BYTES_MAX
from engine.deployment import Deployment
from engine.files_api import FilesApi
from engine.http_actions import HttpActions
from engine.key_cache import KeyCache
from engine.report import Report
from engine.server import Address, ServerOptions, serve
from engine.shared_limits import SharedLimits
from engine.site import StaticSite
from engine.user_tokens import UserTokens
from storage import StoreError

BROWSER_CLIENT: Final = Path(__file__).parent / "static" / "tidewell.js"


@attrs.frozen
class Hosting:
    """Where a deployment is served, and how much its clients may take.

    Args:
      site_port: of the HTTP actions. None is the port after `port`, or any free one if that is taken.
      origin, site_origin: how clients reach it, where that is not the address it listens on.
    """

    host: str = "127.0.0.1"
    port: int = 3210
    site_port: int | None = None
    origin: str | None = None
    site_origin: str | None = None
    shared_limits: SharedLimits = attrs.field(factory=SharedLimits)
    session_limits: SessionLimits = attrs.field(factory=SessionLimits)
    message_bytes_max: int = MESSAGE_BYTES_MAX


@attrs.frozen
class Urls:
    """How clients reach a deployment: its functions, and its HTTP actions."""

    main: str
    site: str


@attrs.frozen
class Host:
    deployment: Deployment
    hosting: Hosting
    report: Report
    clock: Clock
    chance: Chance
    name: str
    page: Path | None = None  # static files served at /

    async def run(
        self,
        signals: AsyncIterator[int],
        work: Callable[[trio.Nursery, Urls], Awaitable[None]],
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve until a signal comes, then end in order.

        Args:
          work: what else is done once connections are accepted; may start tasks of its own.
          on_stop: told of the end before anything is cancelled.

        Raises:
          CannotListen: before anything was served.
        """
        front = trio.CancelScope()  # start-up, the socket server, and `work`

        def stop() -> None:
            on_stop()
            front.cancel()

        async with trio.open_nursery() as everything:
            everything.start_soon(_obey, signals, stop, everything.cancel_scope.cancel, self.report)
            async with trio.open_nursery() as back:
                with front:
                    await back.start(self.deployment.run)
                    try:
                        async with trio.open_nursery() as nursery:
                            urls = await self._listen(nursery)
                            await self._name_urls(urls)
                            await work(nursery, urls)
                    finally:
                        self.deployment.close()
            everything.cancel_scope.cancel()

    async def _listen(self, nursery: trio.Nursery) -> Urls:
        deployment, hosting, chance = self.deployment, self.hosting, self.chance
        tokens = UserTokens(deployment.providers, KeyCache(self.clock), self.clock)
        authenticator = Authenticator(deployment.admin_key, tokens)

        def make_nonce() -> str:
            return chance.token(16).hex()

        is_site_port_given = hosting.site_port is not None
        after = 0 if hosting.port == 0 else min(hosting.port + 1, 65535)
        options = ServerOptions(
            site=StaticSite(self.page, {"/tidewell.js": BROWSER_CLIENT}),
            admin=AdminApi(deployment, self.clock, chance).respond,
            files=FilesApi(deployment.files),
            http_actions=HttpActions(deployment, authenticator, make_nonce),
            site_port=hosting.site_port if hosting.site_port is not None else after,
            may_move_site=not is_site_port_given,
            authenticator=authenticator,
            clock=self.clock,
            chance=chance,
            instance_name=self.name,
            version=version("tidewell"),
            limits=hosting.session_limits,
            shared_limits=hosting.shared_limits,
            message_bytes_max=hosting.message_bytes_max,
        )
        addresses: list[Address] = await nursery.start(serve, deployment, hosting.host, hosting.port, options)
        return Urls(hosting.origin or addresses[0].url, hosting.site_origin or addresses[-1].url)

    async def _name_urls(self, urls: Urls) -> None:
        """Let functions know where they are served."""
        named = {"CONVEX_CLOUD_URL": urls.main, "CONVEX_SITE_URL": urls.site}
        with suppress(BackendFault, StoreError):  # a full disk, say; what can be read is served all the same
            await self.deployment.environment.change(named, by_server=True)


async def _obey(
    signals: AsyncIterator[int], stop: Callable[[], None], cut_off: Callable[[], None], report: Report
) -> None:
    """End in order on the first signal and at once on the next, whatever is going on."""
    report.stopping(signal.Signals(await anext(signals)).name)
    stop()
    async for _ in signals:
        report.cutting_off()
        cut_off()
