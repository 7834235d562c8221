from tidewell import Id, Schema, table, v

# Amounts are whole cents. Every change of a balance has an entry, and those of a transfer add up to nothing.
schema = Schema(
    accounts=table(owner=str, balance=int).index("by_owner", "owner"),
    entries=table(
        account=Id["accounts"], amount=int, kind=str, other=Id["accounts"] | None, at=v.commit_ts()
    ).index("by_account", "account", "at"),
)
