from cells import read, write

from tidewell import mutation, query


@query
def get(ctx) -> int:
    return read(ctx, "counter", 0)


@mutation
def add(ctx, by: int = 1) -> int:
    count = read(ctx, "counter", 0) + by
    write(ctx, "counter", count)
    return count
