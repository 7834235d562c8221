from tidewell import Schema, table

schema = Schema(accounts=table(name=str, balance=int, moves=int).index("by_name", "name", unique=True))
