"""The Python client: queries that stay fresh, mutations that run once, over connections that break.

```python
async with connect("http://127.0.0.1:3210") as client:
    await client.mutation("users:sign_in", {"name": "Ada"})
    async with client.subscribe("posts:list_posts", {"limit": 3}) as posts:
        async for newest in posts:
            print(newest)
```

`BlockingClient` is the same without async. `docs/python-client.md` shows all of it.
"""

from __future__ import annotations

from tidewell.client.blocking import BlockingClient, BlockingSubscription
from tidewell.client.connection import Client, FetchToken, Subscription, connect
from tidewell.client.outcomes import (
    CannotConnect,
    ClientClosed,
    ClientError,
    ClientRefused,
    ConnectionLost,
)
from tidewell.errors import AppError, FunctionError, InvalidValue
from tidewell.refs import api, internal
from tidewell.values import Int64

__all__ = [
    "AppError",
    "BlockingClient",
    "BlockingSubscription",
    "CannotConnect",
    "Client",
    "ClientClosed",
    "ClientError",
    "ClientRefused",
    "ConnectionLost",
    "FetchToken",
    "FunctionError",
    "Int64",
    "InvalidValue",
    "Subscription",
    "api",
    "connect",
    "internal",
]
