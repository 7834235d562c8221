"""A box office that sells some seats twice. `../fixed` does not; `tidewell fuzz` shows the difference."""

from tidewell import Id, action, internal_mutation, mutation, query


@mutation
def add_seat(ctx, name: str) -> Id["seats"]:
    return ctx.db.insert("seats", {"name": name, "order": None})


@query
def seats(ctx) -> list[dict]:
    return ctx.db.query("seats").collect()


@action
def buy(ctx, seat: Id["seats"], buyer: str) -> bool:
    """Sell a seat, if it is free."""
    order = ctx.run_mutation("box_office:open_order", {"seat": seat, "buyer": buyer})
    if order is None:
        return False
    # Here the card is charged, which takes as long as it takes.
    ctx.run_mutation("box_office:settle", {"order": order})
    return True


@internal_mutation
def open_order(ctx, seat: Id["seats"], buyer: str) -> Id["orders"] | None:
    if ctx.db.get(seat)["order"] is not None:
        return None
    return ctx.db.insert("orders", {"seat": seat, "buyer": buyer, "state": "open"})


@internal_mutation
def settle(ctx, order: Id["orders"]) -> None:
    ctx.db.patch(order, {"state": "paid"})
    ctx.db.patch(ctx.db.get(order)["seat"], {"order": order})
