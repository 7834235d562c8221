from typing import Any

from cells import read, write

from tidewell import mutation, query


@query
def list(ctx, channel: str = "a") -> Any:  # noqa: A001 - the name that clients call
    return read(ctx, f"messages/{channel}", [])


@mutation
def send(ctx, body: Any, channel: str = "a") -> int:
    messages = read(ctx, f"messages/{channel}", [])
    write(ctx, f"messages/{channel}", [*messages, body])
    return len(messages)
