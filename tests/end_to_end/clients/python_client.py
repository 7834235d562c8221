"""The official PyPI client, unmodified, against the app `values`. Exits with 0 if all holds.

A program of its own because a blocked call of that client holds the interpreter lock: a
test that waits for it in its own process could not keep a deadline.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from convex import ConvexClient, ConvexError, ConvexInt64
from convex.http_client import ConvexHttpClient

url = sys.argv[1]
client: Any = ConvexClient(url)  # its own types refuse bytes and nested dicts

# Values, both ways and through all three kinds.
nested: Any = {"a": {"b": []}, "c": [1.0, [2.0]]}
values: tuple[Any, ...] = (None, True, 1.5, "é😀", b"\x00\xff", nested, ConvexInt64(-(2**63)))
for value in values:
    assert client.query("values:echo", {"value": value}) == value, value
    assert client.action("values:act", {"value": value}) == value, value
    key = client.mutation("values:keep", {"value": value})
    assert client.query("values:kept", {"key": key}) == value, value
assert math.isnan(client.query("values:echo", {"value": math.nan}))

# A subscription sees a mutation of the same client, and of another one.
watched = client.subscribe("values:count_kept", {})
first = next(watched)
client.mutation("values:keep", {"value": 1})
assert next(watched) == first + 1
ConvexHttpClient(url).mutation("values:keep", {"value": 2})
assert next(watched) == first + 2

# Errors: application errors carry their data, the others their text.
for data in ({"code": "FULL"}, "text", None):
    with pytest.raises(ConvexError) as refused:
        client.mutation("values:refuse", {"data": data})
    assert refused.value.data == data
with pytest.raises(Exception, match="Uncaught ValueError: no such channel"):
    client.mutation("values:fail")
with pytest.raises(Exception, match="Could not find public function for 'values:ecko'"):
    client.query("values:ecko")
with pytest.raises(Exception, match="ArgumentValidationError"):
    client.query("values:typed", {"count": "x"})

# The HTTP client of the same package.
http: Any = ConvexHttpClient(url)
assert http.query("values:echo", {"value": [1.0, "x", b"\xff"]}) == [1.0, "x", b"\xff"]
assert http.query("values:typed", {"count": 3}) == "nobody: 3"
assert http.action("values:act", {"value": 2.5}) == 2.5
with pytest.raises(ConvexError) as refused:
    http.mutation("values:refuse", {"data": {"code": "FULL"}})
assert refused.value.data == {"code": "FULL"}
print("all holds")
