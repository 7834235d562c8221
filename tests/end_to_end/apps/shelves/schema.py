from tidewell import Schema, table

schema = Schema(books=table(shelf=str, title=str).index("by_shelf", "shelf", "title"))
