from tidewell import mutation, query


@mutation
def increment(ctx, name: str) -> int:
    """Read, add one, write: the textbook lost update, if transactions were not serializable."""
    counter = find(ctx, name)
    if counter is None:
        ctx.db.insert("counters", {"name": name, "count": 1})
        return 1
    ctx.db.patch(counter["_id"], {"count": counter["count"] + 1})
    return counter["count"] + 1


@mutation
def increment_and_note(ctx, name: str, client: str, number: int) -> None:
    """Increment, and note whose increment it was, so that a repeated one cannot hide."""
    ctx.db.insert("increments", {"client": client, "number": number})
    counter = find(ctx, name)
    if counter is None:
        ctx.db.insert("counters", {"name": name, "count": 1})
    else:
        ctx.db.patch(counter["_id"], {"count": counter["count"] + 1})


@query
def value(ctx, name: str) -> int:
    counter = find(ctx, name)
    return 0 if counter is None else counter["count"]


@query
def notes(ctx) -> list[dict]:
    return [
        {"client": note["client"], "number": note["number"]} for note in ctx.db.query("increments").collect()
    ]


def find(ctx, name):
    return ctx.db.query("counters").with_index("by_name", lambda q: q.eq("name", name)).unique()
