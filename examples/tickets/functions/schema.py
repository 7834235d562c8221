from tidewell import Id, Schema, table

schema = Schema(
    seats=table(name=str, order=Id["orders"] | None),  # the order that it was sold to
    orders=table(seat=Id["seats"], buyer=str, state=str).index("by_seat", "seat"),
)
