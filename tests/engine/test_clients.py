"""Who the client says it is."""

from __future__ import annotations

import pytest

from engine.clients import Client, read_client, read_version


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("npm-1.48.0", Client("npm", (1, 48, 0))),
        ("python-0.8.1", Client("python", (0, 8, 1))),
        ("Rust-0.10.4-beta", Client("rust", (0, 10, 4))),
        ("streaming.import-1.0.0", Client("streaming.import", (1, 0, 0))),
        ("npm-one", Client("npm", ())),
        ("x" * 100_000, Client()),
        ("", Client()),
        (None, Client()),
    ],
)
def test_header_names_client_and_version(header: str | None, client: Client) -> None:
    assert read_client(header) == client


@pytest.mark.parametrize("text", ["1", "1.2", "1.2.x", "v1.2.3", "1.2.3.4", "1.2.3-ä", "٣.1.1", ""])
def test_text_that_is_no_semantic_version_is_none(text: str) -> None:
    assert read_version(text) == ()


@pytest.mark.parametrize(
    ("client", "takes"),
    [
        (Client("npm", (1, 28, 0)), True),
        (Client("npm", (2, 0, 0)), True),
        (Client("npm", (1, 27, 9)), False),
        (Client("npm", ()), False),
        (Client("rust", (9, 9, 9)), False),
    ],
)
def test_only_recent_npm_takes_chunks(client: Client, takes: bool) -> None:
    assert client.takes_chunks is takes
