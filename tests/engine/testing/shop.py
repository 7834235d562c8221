"""A small app: a shop whose `buy` looks first and takes then, in two transactions."""

from __future__ import annotations

APP = {
    "shop.py": """
from tidewell import AppError, Id, action, internal_mutation, mutation, query

def find(ctx, name):
    return ctx.db.query("items").with_index("by_name", lambda q: q.eq("name", name)).unique()

@mutation
def stock(ctx, name: str, count: int) -> Id["items"]:
    print("stocked", name)
    return ctx.db.insert("items", {"name": name, "count": count, "by": who(ctx), "at": ctx.now()})

def who(ctx):
    user = ctx.auth.get_user_identity()
    return None if user is None else user["subject"]

@query
def left(ctx, name: str) -> int:
    return find(ctx, name)["count"]

@mutation
def take(ctx, name: str) -> int:
    item = find(ctx, name)
    if item is None:
        raise AppError({"no such thing": name})
    ctx.db.patch(item["_id"], {"count": item["count"] - 1})
    return item["count"] - 1

@internal_mutation
def clear(ctx) -> None:
    for item in ctx.db.query("items"):
        ctx.db.delete(item["_id"])

@mutation
def draw(ctx) -> float:
    return ctx.random.random()

@action
def buy(ctx, name: str) -> bool:
    if ctx.run_query("shop:left", {"name": name}) < 1:
        return False
    ctx.run_mutation("shop:take", {"name": name})
    return True
""",
    "schema.py": """
from tidewell import Schema, table

schema = Schema(
    items=table(name=str, count=int, by=str | None, at=int).index("by_name", "name"),
)
""",
}
