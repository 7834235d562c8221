"""What the public quick starts are made of: a chat, a list in pages, a counter, and what is one's own."""

from tidewell import AppError, PaginationOpts, action, mutation, query


@query
def list_messages(ctx) -> list:
    return ctx.db.query("messages").order("desc").take(50)[::-1]


@mutation
def send_message(ctx, author: str, body: str) -> None:
    ctx.db.insert("messages", {"author": author, "body": body})


@query
def list_rows(ctx, paginationOpts: PaginationOpts):  # noqa: N803 - the name that clients send
    return ctx.db.query("rows").with_index("by_number").paginate(paginationOpts)


@query
def list_tens(ctx, paginationOpts: PaginationOpts):  # noqa: N803 - the name that clients send
    """Few among many: a page that has looked at too many rows is to be split, and not shown before."""
    rows = (
        ctx.db.query("rows")
        .with_index("by_number")
        .filter(lambda q: q.eq(q.mod(q.field("number"), 10.0), 0.0))
    )
    return rows.paginate({**paginationOpts, "maximumRowsRead": 8})


@mutation
def add_rows(ctx, numbers: list[float]) -> None:
    for number in numbers:
        ctx.db.insert("rows", {"number": number})


@mutation
def remove_rows(ctx, numbers: list[float]) -> None:
    for number in numbers:
        row = ctx.db.query("rows").with_index("by_number", lambda q, n=number: q.eq("number", n)).unique()
        ctx.db.delete(row["_id"])


@query
def count(ctx) -> int:
    counter = ctx.db.query("counters").first()
    return 0 if counter is None else counter["count"]


@mutation
def increment(ctx, by: int) -> None:
    if by > 10:
        raise AppError({"code": "TOO_MUCH", "by": by})
    counter = ctx.db.query("counters").first()
    if counter is None:
        ctx.db.insert("counters", {"count": by})
    else:
        ctx.db.patch(counter["_id"], {"count": counter["count"] + by})


@query
def my_secrets(ctx) -> dict:
    owner = signed_in(ctx)
    secrets = ctx.db.query("secrets").with_index("by_owner", lambda q: q.eq("owner", owner))
    return {"owner": owner, "texts": [secret["text"] for secret in secrets]}


@mutation
def keep_secret(ctx, text: str) -> None:
    ctx.db.insert("secrets", {"owner": signed_in(ctx), "text": text})


def signed_in(ctx):
    identity = ctx.auth.get_user_identity()
    if identity is None:
        raise AppError({"code": "SIGNED_OUT"})
    return identity["subject"]


@query
def find_messages(ctx, author: str) -> list:
    return [message["body"] for message in ctx.db.query("messages") if message["author"] == author]


@query
def list_messages_of(ctx, author: str, paginationOpts: PaginationOpts):  # noqa: N803 - the name that clients send
    """A page whose rows are picked and reshaped, as front ends like them."""
    messages = ctx.db.query("messages").order("desc")
    page = messages.filter(lambda q: q.eq(q.field("author"), author)).paginate(paginationOpts)
    return {**page, "page": [{"id": message["_id"], "body": message["body"]} for message in page["page"]]}


@query
def guarded(ctx, least: int) -> int:
    found = len(ctx.db.query("messages").collect())
    if found < least:
        raise AppError({"code": "TOO_FEW", "found": found})
    return found


@action
def shout(ctx, author: str, body: str) -> dict:
    ctx.run_mutation("shapes:send_message", {"author": author, "body": body.upper()})
    return {"said": ctx.run_query("shapes:find_messages", {"author": author}), "at": ctx.now()}
