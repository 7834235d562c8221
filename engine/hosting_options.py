"""Options of the commands that serve: where, and how much clients may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
import click

from engine.commands import SessionLimits
from engine.connection import MESSAGE_BYTES_MAX
from engine.hosting import Hosting
from engine.shared_limits import MIB, SharedLimits

DEFAULT_PORT: Final = 3210  # where a front end configured for a local Convex deployment looks
Command = TypeVar("Command", bound=Callable[..., Any])

_SHARED: Final = SharedLimits()
_PORT: Final = click.IntRange(0, 65535)
_COUNT: Final = click.IntRange(min=1)
_OPTIONS: Final = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", type=_PORT, default=DEFAULT_PORT, show_default=True, help="0 takes a free one."),
    click.option(
        "--site-port", type=_PORT, help="Port of the HTTP actions.  [default: the one after --port]"
    ),
    click.option(
        "--max-sockets",
        type=_COUNT,
        default=_SHARED.sockets_max,
        show_default=True,
        help="Sockets of the deployment; more are told to come back later.",
    ),
    click.option(
        "--max-subscriptions",
        type=_COUNT,
        default=_SHARED.subscriptions_max,
        show_default=True,
        help="Subscriptions on all sockets together.",
    ),
    click.option(
        "--max-messages",
        type=_COUNT,
        default=int(_SHARED.messages_per_s),
        show_default=True,
        help="Messages per second on all sockets together.",
    ),
    click.option(
        "--max-message-bytes",
        type=click.IntRange(min=1024),
        default=MESSAGE_BYTES_MAX,
        show_default=True,
        help="Size of one message of a client.",
    ),
    click.option(
        "--max-memory",
        type=click.IntRange(min=16),
        default=_SHARED.held_bytes_max // MIB,
        show_default=True,
        help="MiB for the arguments that all clients have waiting or watch queries with.",
    ),
)


def hosting_options(command: Command) -> Command:
    """Give a command the options; `read_hosting` takes what they were."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_hosting(
    *,
    host: str,
    port: int,
    site_port: int | None,
    max_sockets: int,
    max_subscriptions: int,
    max_messages: int,
    max_message_bytes: int,
    max_memory: int,
) -> Hosting:
    defaults, session = SharedLimits(), SessionLimits()
    memory = max_memory * MIB
    shared = attrs.evolve(
        defaults,
        sockets_max=max_sockets,
        subscriptions_max=max_subscriptions,
        messages_per_s=float(max_messages),
        messages_burst=max_messages * defaults.messages_burst / defaults.messages_per_s,
        held_bytes_max=memory,
    )
    return Hosting(
        host=host,
        port=port,
        site_port=site_port,
        shared_limits=shared,
        session_limits=attrs.evolve(session, held_bytes_max=min(session.held_bytes_max, memory)),
        message_bytes_max=max_message_bytes,
    )
