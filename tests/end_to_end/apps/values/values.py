from tidewell import AppError, action, internal_query, mutation, query


@query
def echo(ctx, value):
    return value


@mutation
def keep(ctx, value) -> str:
    return ctx.db.insert("kept", {"value": value})


@query
def kept(ctx, key: str):
    found = ctx.db.get(key)
    return None if found is None else found["value"]


@action
def act(ctx, value):
    return ctx.run_query("values:hidden", {"value": value})


@internal_query
def hidden(ctx, value):
    return value


@query
def typed(ctx, count: int, name: str = "nobody") -> str:
    return f"{name}: {count}"


@mutation
def refuse(ctx, data) -> None:
    ctx.db.insert("kept", {"value": "must be rolled back"})
    raise AppError(data)


@mutation
def fail(ctx) -> None:
    raise ValueError("no such channel")


@query
def count_kept(ctx) -> int:
    return len(ctx.db.query("kept").collect())


@query
def long_result(ctx, texts: int, length: int) -> dict:
    """As large as it is wanted to be, and new with every kept value."""
    return {"count": len(ctx.db.query("kept").collect()), "texts": ["x" * length for _ in range(texts)]}


@query
def unless_crowded(ctx, most: int) -> int:
    count = len(ctx.db.query("kept").collect())
    if count > most:
        raise AppError({"code": "CROWDED", "count": count})
    return count
