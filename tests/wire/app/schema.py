from typing import Any

from tidewell import Schema, table

schema = Schema(
    cells=table(name=str, value=Any).index("by_name", "name"),
    entries=table(name=str).index("by_name", "name"),
)
