from tidewell import Id, action, mutation, query


@mutation
def upload_url(ctx) -> str:
    return ctx.storage.generate_upload_url()


@query
def show(ctx, picture: Id["_storage"]):
    return {"url": ctx.storage.get_url(picture), "row": ctx.storage.get_metadata(picture)}


@query
def rows(ctx):
    return ctx.db.system.query("_storage").collect()


@mutation
def remove(ctx, picture: Id["_storage"], fails: bool = False) -> None:
    ctx.storage.delete(picture)
    if fails:
        raise ValueError("changed my mind")


@action
def make(ctx, size: int, pieces: int = 1, sha256: str | None = None) -> str:
    data = (f"{number}".encode() * (size // pieces) for number in range(pieces))
    return ctx.storage.store(data, content_type="text/plain", sha256=sha256)


@action
def read(ctx, picture: str) -> dict:
    whole = ctx.storage.get(picture)
    if whole is None:
        return {"gone": True}
    opened = ctx.storage.open(picture)
    pieces = [opened.read(3), opened.read(2)]
    return {
        "whole": whole[:10],
        "size": len(whole),
        "pieces": pieces,
        "rest": sum(len(piece) for piece in opened),
        "url": ctx.storage.get_url(picture),
        "row": ctx.storage.get_metadata(picture),
        "upload": ctx.storage.generate_upload_url(),
    }


@action
def drop(ctx, picture: str) -> None:
    ctx.storage.delete(picture)


@query
def wrong(ctx):
    return ctx.storage.generate_upload_url()
