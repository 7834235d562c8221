from tidewell import Response, http_action, mutation, query


@query
def texts(ctx) -> list:
    return [row["text"] for row in ctx.db.query("inbox")]


@mutation
def add(ctx, text: str) -> int:
    ctx.db.insert("inbox", {"text": text})
    return len(ctx.db.query("inbox").collect())


@http_action
def hook(ctx, request):
    count = ctx.run_mutation("inbox:add", {"text": request.json()["text"]})
    return Response(f"{count} texts", 201, {"x-count": str(count)})
