"""Amounts that move between two documents: the sum stays, and every move counts in both."""

from tidewell import mutation, query


@mutation
def open_both(ctx) -> None:
    for name in ("left", "right"):
        ctx.db.insert("accounts", {"name": name, "balance": 100, "moves": 0})


@query
def account(ctx, name: str) -> dict:
    found = find(ctx, name)
    return {"balance": found["balance"], "moves": found["moves"]}


@mutation
def transfer(ctx, source: str, target: str, amount: int) -> None:
    for name, change in ((source, -amount), (target, amount)):
        found = find(ctx, name)
        ctx.db.patch(found["_id"], {"balance": found["balance"] + change, "moves": found["moves"] + 1})


def find(ctx, name):
    return ctx.db.query("accounts").with_index("by_name", lambda q: q.eq("name", name)).unique()
