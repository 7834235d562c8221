from tidewell import Id, Schema, table

schema = Schema(
    channels=table(name=str, topic=str).index("by_name", "name", unique=True),
    messages=table(channel=Id["channels"], author=str, text=str, edited=bool).index("by_channel", "channel"),
)
