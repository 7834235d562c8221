"""Posts about places, and the likes they get.

Each query below is live: whoever watches one is sent a new result when, and only
when, a commit writes inside the index range that it read.
"""

from tidewell import AppError, Id, mutation, query, v

from checks import cleaned
from schema import schema

PLACE_LONGEST = 60
TEXT_LONGEST = 500
POSTS_MOST = 100

# What the lists return. It is checked, and `tidewell codegen` makes a TypeScript type of it.
SHOWN = v.array(schema.doc("posts").extend({"author_name": str, "liked": bool}))


@query(returns=SHOWN)
def list_posts(ctx, viewer: Id["users"] | None = None, limit: int = 30):
    """Return the newest posts first."""
    posts = ctx.db.query("posts").order("desc").take(at_most(limit))
    return [described(ctx, post, viewer) for post in posts]


@query(returns=SHOWN)
def list_popular(ctx, viewer: Id["users"] | None = None, limit: int = 30):
    """Return the posts with the most likes first, leaving out those that have none."""
    liked = ctx.db.query("posts").with_index("by_likes", lambda q: q.gt("likes", 0))
    return [described(ctx, post, viewer) for post in liked.order("desc").take(at_most(limit))]


@query(returns=SHOWN)
def list_at_place(ctx, place: str, viewer: Id["users"] | None = None, limit: int = 30):
    """Return the newest posts about one place first."""
    there = ctx.db.query("posts").with_index("by_place", lambda q: q.eq("place", place))
    return [described(ctx, post, viewer) for post in there.order("desc").take(at_most(limit))]


@mutation
def create_post(ctx, author: Id["users"], place: str, text: str) -> Id["posts"]:
    must_exist(ctx, author, "person")
    post = {
        "author": author,
        "place": cleaned("place", place, PLACE_LONGEST),
        "text": cleaned("text", text, TEXT_LONGEST),
        "likes": 0,
    }
    return ctx.db.insert("posts", post)


@mutation
def like(ctx, post_id: Id["posts"], user_id: Id["users"]) -> int:
    """Count one like per person and post, however often it is sent; return the count."""
    post = must_exist(ctx, post_id, "post")
    must_exist(ctx, user_id, "person")
    if find_like(ctx, post_id, user_id) is not None:
        return post["likes"]
    ctx.db.insert("likes", {"user": user_id, "post": post_id})
    ctx.db.patch(post_id, {"likes": post["likes"] + 1})
    return post["likes"] + 1


@mutation
def unlike(ctx, post_id: Id["posts"], user_id: Id["users"]) -> int:
    """Take a like back; a like that was never given is no error. Return the count."""
    post = must_exist(ctx, post_id, "post")
    given = find_like(ctx, post_id, user_id)
    if given is None:
        return post["likes"]
    ctx.db.delete(given["_id"])
    ctx.db.patch(post_id, {"likes": post["likes"] - 1})
    return post["likes"] - 1


def described(ctx, post, viewer):
    """Return a post as the page shows it: with its author's name and the viewer's own like."""
    author = ctx.db.get(post["author"])
    liked = viewer is not None and find_like(ctx, post["_id"], viewer) is not None
    return {**post, "author_name": author["name"], "liked": liked}


def find_like(ctx, post_id, user_id):
    pairs = ctx.db.query("likes")
    return pairs.with_index("by_user_and_post", lambda q: q.eq("user", user_id).eq("post", post_id)).unique()


def must_exist(ctx, document_id, what):
    document = ctx.db.get(document_id)
    if document is None:
        raise AppError({"code": "GONE", "message": f"That {what} is not here any more."})
    return document


def at_most(limit):
    return max(1, min(limit, POSTS_MOST))
