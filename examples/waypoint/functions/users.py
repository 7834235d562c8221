"""People. Waypoint believes the name you give; an app with secrets asks `ctx.auth` instead."""

from tidewell import Id, mutation, query, v

from checks import cleaned
from schema import schema

NAME_LONGEST = 30


@mutation
def sign_in(ctx, name: str) -> Id["users"]:
    """Return the person of that name, whatever its case, and welcome a new one among us."""
    name = cleaned("name", name, NAME_LONGEST)
    key = name.lower()
    known = ctx.db.query("users").with_index("by_key", lambda q: q.eq("key", key)).unique()
    if known is not None:
        return known["_id"]
    print(f"{name} is new here")
    return ctx.db.insert("users", {"name": name, "key": key})


@query(returns=v.union(schema.doc("users"), v.null()))
def get_user(ctx, user_id: Id["users"]):
    return ctx.db.get(user_id)
