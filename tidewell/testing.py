"""Test an app against the real engine, in virtual time, from one seed.

```python
from tidewell.testing import BlockingTestServer

def test_a_like_counts():
    with BlockingTestServer("functions", seed=7) as server:
        post = server.mutation("posts:write", {"text": "hello"})
        server.mutation("posts:like", {"post_id": post})
        assert server.query("posts:list_posts")[0]["likes"] == 1
```

`docs/testing.md` shows all of it.

This module is a roof, not a part of the house: the one of `tidewell` that looks at the
engine. Nothing else imports it, so that an app and its clients do not load a server.
"""

from __future__ import annotations

from engine.backend import BackendFault
from engine.push import PushFailed
from engine.testing.blocking import (
    BlockingCaller,
    BlockingRunning,
    BlockingTestServer,
    BlockingTestSubscription,
)
from engine.testing.caller import Caller
from engine.testing.faults import Faults
from engine.testing.fixture import server_fixture
from engine.testing.loop import NotVirtual, run
from engine.testing.rules import Rules, documents, invariant, setup, step
from engine.testing.server import Line, TestServer
from engine.testing.stepping import CallEnded, Running, Transaction
from engine.testing.subscription import TestSubscription
from sandbox.database import DatabaseReader as Reader
from tidewell.errors import AppError, FunctionError

__all__ = [
    "AppError",
    "BackendFault",
    "BlockingCaller",
    "BlockingRunning",
    "BlockingTestServer",
    "BlockingTestSubscription",
    "CallEnded",
    "Caller",
    "Faults",
    "FunctionError",
    "Line",
    "NotVirtual",
    "PushFailed",
    "Reader",
    "Rules",
    "Running",
    "TestServer",
    "TestSubscription",
    "Transaction",
    "documents",
    "invariant",
    "run",
    "server_fixture",
    "setup",
    "step",
]
