"""One value under each name: what the scripts of this folder read and write."""

from typing import Any

from tidewell import internal_mutation


@internal_mutation
def put(ctx, name: str, value: Any) -> None:
    write(ctx, name, value)


def find(ctx, name):
    return ctx.db.query("cells").with_index("by_name", lambda q: q.eq("name", name)).unique()


def read(ctx, name, default):
    cell = find(ctx, name)
    return default if cell is None else cell["value"]


def write(ctx, name, value):
    cell = find(ctx, name)
    if cell is None:
        ctx.db.insert("cells", {"name": name, "value": value})
    else:
        ctx.db.patch(cell["_id"], {"value": value})
