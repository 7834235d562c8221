"""What a careless or a wicked author writes. Each call must end in an error, and only that call."""

from tidewell import mutation, query


@query
def loop_for_ever(ctx):
    while True:
        pass


@mutation
def recurse_for_ever(ctx):
    return deeper(1)


@query
def hoard_small(ctx):
    hoard = []
    while True:
        hoard.append("x" * 100_000)


@query
def hoard_doubling(ctx):
    text = "x"
    while True:
        text = text + text


@query
def hoard_at_once(ctx):
    return [0] * 10**10


@query
def reach_for_class(ctx):
    return getattr((), "__" + "class__")


@query
def innocent(ctx) -> str:
    return "still here"


def deeper(n):
    return deeper(n + 1)
