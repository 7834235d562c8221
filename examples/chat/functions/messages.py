"""Messages: sent, shown page by page, changed by those who wrote them.

`page` takes and returns what `usePaginatedQuery` and `client.paginate` send and expect,
so a front end has a list that grows to its past and follows its present.
"""

from tidewell import Id, PaginationOpts, mutation, query

from checks import message_text, refuse


@query
def page(ctx, channel: Id["channels"], paginationOpts: PaginationOpts) -> dict:  # noqa: N803 - as clients send it
    """Return a page of the messages of a channel, the newest first."""
    messages = ctx.db.query("messages").with_index("by_channel", lambda q: q.eq("channel", channel))
    return messages.order("desc").paginate(paginationOpts)


@query
def count(ctx, channel: Id["channels"]) -> int:
    return ctx.db.query("messages").with_index("by_channel", lambda q: q.eq("channel", channel)).count()


@mutation
def send(ctx, channel: Id["channels"], author: str, text: str) -> Id["messages"]:
    text = message_text(text)
    if ctx.db.get(channel) is None:
        refuse("GONE", "This channel is gone.")
    return ctx.db.insert("messages", {"channel": channel, "author": author, "text": text, "edited": False})


@mutation
def edit(ctx, message: Id["messages"], author: str, text: str) -> None:
    text = message_text(text)
    written_by(ctx, message, author)
    ctx.db.patch(message, {"text": text, "edited": True})


@mutation
def remove(ctx, message: Id["messages"], author: str) -> None:
    written_by(ctx, message, author)
    ctx.db.delete(message)


def written_by(ctx, message, author):
    found = ctx.db.get(message)
    if found is None:
        refuse("GONE", "This message is gone.")
    if found["author"] != author:
        refuse("NOT_YOURS", f"Only {found['author']} can change this message.")
