from typing import Any

from tidewell import PaginationOpts, internal_mutation, query


@query
def page(ctx, paginationOpts: PaginationOpts) -> Any:  # noqa: N803 - the name that clients use
    result = ctx.db.query("entries").with_index("by_name").paginate(paginationOpts)
    result["page"] = [entry["name"] for entry in result["page"]]
    return result


@internal_mutation
def put(ctx, name: str) -> None:
    ctx.db.insert("entries", {"name": name})
