from tidewell import query


@query
def hello(ctx) -> str:
    return "good morning"
