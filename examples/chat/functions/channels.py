"""Channels: where messages are. A name is given once."""

from tidewell import Id, internal_mutation, mutation, query

from checks import channel_name, refuse

DELETED_AT_ONCE = 500  # messages in one transaction


@query
def list(ctx) -> list[dict]:
    """Return the channels by name."""
    return ctx.db.query("channels").with_index("by_name").take(100)


@query
def find(ctx, name: str) -> dict | None:
    return (
        ctx.db.query("channels").with_index("by_name", lambda q: q.eq("name", name.strip().lower())).unique()
    )


@mutation
def create(ctx, name: str, topic: str = "") -> Id["channels"]:
    name = channel_name(name)
    if ctx.run_query("channels:find", {"name": name}) is not None:
        refuse("TAKEN", f"There is a channel called {name} already.")
    return ctx.db.insert("channels", {"name": name, "topic": topic.strip()})


@mutation
def set_topic(ctx, channel: Id["channels"], topic: str) -> None:
    if ctx.db.get(channel) is None:
        refuse("GONE", "This channel is gone.")
    ctx.db.patch(channel, {"topic": topic.strip()})


@internal_mutation
def remove(ctx, channel: Id["channels"]) -> bool:
    """Remove a channel with its messages, some at a time; True when nothing is left. For operators."""
    messages = ctx.db.query("messages").with_index("by_channel", lambda q: q.eq("channel", channel))
    found = messages.take(DELETED_AT_ONCE)
    for message in found:
        ctx.db.delete(message["_id"])
    if len(found) == DELETED_AT_ONCE:
        return False
    if ctx.db.get(channel) is not None:
        ctx.db.delete(channel)
    return True
