"""What must hold in a box office, and what may happen there. `tidewell fuzz examples/tickets/functions`"""

from tidewell.testing import invariant, setup, step


@setup
def two_seats(server):
    server.mutation("box_office:add_seat", {"name": "A1"})
    server.mutation("box_office:add_seat", {"name": "A2"})


@invariant
def no_seat_is_sold_twice(db):
    for seat in db.query("seats"):
        orders = db.query("orders").with_index("by_seat", lambda q, seat=seat: q.eq("seat", seat["_id"]))
        buyers = [order["buyer"] for order in orders if order["state"] == "paid"]
        assert len(buyers) <= 1


step("box_office:buy")
