from tidewell import Schema, table

schema = Schema(
    counters=table(name=str, count=int).index("by_name", "name"),
    increments=table(client=str, number=int).index("by_client", "client", "number"),
)
