from cells import read, write

from tidewell import mutation, query


@query
def balance(ctx, name: str) -> int:
    return read(ctx, f"account/{name}", 100)


@mutation
def transfer(ctx, source: str, target: str, amount: int) -> None:
    balance_before = read(ctx, f"account/{source}", 100)
    write(ctx, f"account/{source}", balance_before - amount)
    write(ctx, f"account/{target}", read(ctx, f"account/{target}", 100) + amount)
