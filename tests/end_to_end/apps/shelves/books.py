"""Every query says when it runs, so that a test can count how often it did."""

from tidewell import mutation, query


@query
def on_shelf(ctx, shelf: str) -> list[str]:
    print(f"on_shelf {shelf} runs")
    books = ctx.db.query("books").with_index("by_shelf", lambda q: q.eq("shelf", shelf))
    return [book["title"] for book in books]


@query
def first_two(ctx, shelf: str) -> list[str]:
    print(f"first_two {shelf} runs")
    books = ctx.db.query("books").with_index("by_shelf", lambda q: q.eq("shelf", shelf))
    return [book["title"] for book in books.take(2)]


@mutation
def put(ctx, shelf: str, title: str) -> None:
    ctx.db.insert("books", {"shelf": shelf, "title": title})


@mutation
def say(ctx, text: str) -> None:
    print(text)
