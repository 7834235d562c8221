from tidewell import Schema, table

schema = Schema(
    messages=table(author=str, body=str),
    rows=table(number=float).index("by_number", "number"),
    counters=table(count=int),
    secrets=table(owner=str, text=str).index("by_owner", "owner"),
)
