"""Tidewell: a reactive backend whose functions are plain Python.

Everything an app imports is here; `app-api.md` shows how it is written. The same
names exist inside the sandbox, where the host provides them.
"""

from __future__ import annotations

from typing import Any, NoReturn

from tidewell.annotations import Id, PaginationOpts
from tidewell.builders import v
from tidewell.errors import AppError, FunctionError
from tidewell.functions import (
    action,
    internal_action,
    internal_mutation,
    internal_query,
    mutation,
    query,
)
from tidewell.http_actions import Response, Router, http_action
from tidewell.refs import api, internal
from tidewell.schema import Schema, table
from tidewell.values import MISSING, Int64

__all__ = [
    "MISSING",
    "AppError",
    "FunctionError",
    "Id",
    "Int64",
    "PaginationOpts",
    "Response",
    "Router",
    "Schema",
    "action",
    "api",
    "http_action",
    "internal",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "mutation",
    "query",
    "table",
    "v",
]

NOT_YET = {"Crons": "scheduled functions"}


def __getattr__(name: str) -> Any:
    if name in NOT_YET:
        _refuse(name)
    raise AttributeError(f"module 'tidewell' has no attribute {name!r}")


def _refuse(name: str) -> NoReturn:
    raise ImportError(f"{name} is not available: this version of Tidewell does not have {NOT_YET[name]}")
