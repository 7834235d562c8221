"""A letter for everyone who is new, sent by an action.

An action may talk to the world, and therefore has no `ctx.db`: it reads and writes
through queries and mutations, each a transaction of its own. The two it uses are
internal, which means that no client can call them.
"""

from tidewell import AppError, Id, action, internal, internal_mutation, internal_query, query, v

from schema import schema


@query(returns=v.array(schema.doc("letters")))
def inbox(ctx, user_id: Id["users"]):
    """Return a person's letters, newest first."""
    letters = ctx.db.query("letters").with_index("by_user", lambda q: q.eq("user", user_id))
    return letters.order("desc").take(5)


@action
def send_welcome(ctx, user_id: Id["users"]) -> str:
    """Write to a person about what goes on here, once; return the letter."""
    news = ctx.run_query(internal.welcome.gather_news, {"user_id": user_id})
    print(f"writing to {news['name']}")
    return ctx.run_mutation(internal.welcome.deliver, {"user_id": user_id, "text": compose(news)})


@internal_query
def gather_news(ctx, user_id: Id["users"]) -> dict:
    user = ctx.db.get(user_id)
    if user is None:
        raise AppError({"code": "GONE", "message": "Nobody to welcome: that person is not here."})
    newest = ctx.db.query("posts").order("desc").first()
    return {"name": user["name"], "newest_place": None if newest is None else newest["place"]}


@internal_mutation
def deliver(ctx, user_id: Id["users"], text: str) -> str:
    """Keep the letter, unless an earlier one is here: an action may be started twice."""
    earlier = ctx.db.query("letters").with_index("by_user", lambda q: q.eq("user", user_id)).first()
    if earlier is not None:
        return earlier["text"]
    ctx.db.insert("letters", {"user": user_id, "text": text})
    return text


def compose(news):
    greeting = f"Welcome to Waypoint, {news['name']}!"
    if news["newest_place"] is None:
        return f"{greeting} Nobody has posted yet: tell us about the first place."
    return f"{greeting} The latest post is about {news['newest_place']}. Where have you been?"
