"""What the command line asks of a running server: pushes, environment variables, edits of documents.

Under `/api/v1/`, for holders of the admin key alone (`http_api` sees to that). The two
endpoints for environment variables are those of Convex deployments. A refusal is
`{code, message}` with status 400; of a push, the message has a line for each problem.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import msgspec

from engine.app_folder import InvalidAppFolder, check_modules
from engine.backend import BackendFault
from engine.chance import Chance
from engine.clock import Clock
from engine.deployment import Deployment
from engine.edits import Edit, apply_edit
from engine.environment import RESERVED, InvalidEnvironment
from engine.exchange import Refused, Request, Response
from engine.http_api import ADMIN_PREFIX
from engine.push import PushFailed
from sandbox.frames import Module
from storage import StoreError
from tidewell.errors import TidewellError

CHANGES_MAX: Final = 1_000


class _PushBody(msgspec.Struct, forbid_unknown_fields=True):
    modules: list[tuple[str, str]]  # path, source in base64
    auth: str = ""  # base64
    settings: str = ""  # base64


class _VariableChange(msgspec.Struct):
    name: str
    value: str | None = None  # None removes


class _ChangesBody(msgspec.Struct):
    changes: list[_VariableChange]


@attrs.define(eq=False)
class AdminApi:
    _deployment: Deployment
    _clock: Clock
    _chance: Chance
    _push_progress: str = attrs.field(default="", init=False)  # of the push under way, or of the last one

    async def respond(self, request: Request) -> Response:
        """Answer a request whose path begins with `ADMIN_PREFIX`, of an admin. Raises `Refused`."""
        routes: dict[str, tuple[str, Callable[[Request], Awaitable[object]]]] = {
            "list_environment_variables": ("GET", self._list_variables),
            "update_environment_variables": ("POST", self._update_variables),
            "edit": ("POST", self._edit),
            "push": ("POST", self._push),
            "push_progress": ("GET", self._progress),
        }
        name = request.path.removeprefix(ADMIN_PREFIX)
        if name not in routes:
            raise Refused(404, "NotFound", f"nothing is served at {request.path}")
        method, answer = routes[name]
        if request.method != method:
            raise Refused(
                405, "MethodNotAllowed", f"{request.path} takes {method}", [(b"allow", method.encode())]
            )
        try:
            return Response(200, msgspec.json.encode(await answer(request)))
        except (InvalidEnvironment, TidewellError) as error:
            code = error.code if isinstance(error, TidewellError) else "InvalidEnvironmentVariable"
            raise Refused(400, code, str(error)) from None
        except StoreError as error:
            raise BackendFault("StoreRefused", str(error), transient=True) from None

    # ---- environment variables -----------------------------------------------------------

    async def _list_variables(self, _: Request) -> object:
        variables = self._deployment.environment.variables
        set_by_users = {name: variables[name] for name in sorted(variables) if not name.startswith(RESERVED)}
        return {"environmentVariables": set_by_users}

    async def _update_variables(self, request: Request) -> object:
        body = _read(request, _ChangesBody)
        changes = {change.name: change.value for change in body.changes}
        if len(changes) > CHANGES_MAX or len(changes) != len(body.changes):
            raise Refused(
                400, "BadRequest", f"at most {CHANGES_MAX} variables can be changed at once, each one time"
            )
        await self._deployment.environment.change(changes)
        return {}

    # ---- documents -----------------------------------------------------------------------

    async def _edit(self, request: Request) -> object:
        edit = Edit.read(_read(request, dict[str, Any]))
        code = self._deployment.code
        schema = None if code is None else code.described.read_schema()
        document_id = await self._deployment.own_writes.run(
            lambda transaction: apply_edit(edit, transaction, schema, self._clock, self._chance)
        )
        return {"id": document_id}

    # ---- pushes --------------------------------------------------------------------------

    async def _push(self, request: Request) -> object:
        body = _read(request, _PushBody)
        modules = [Module(path=path, source=_bytes(source)) for path, source in body.modules]
        self._push_progress = ""
        try:
            check_modules(modules)
            report = await self._deployment.push(
                modules, self._note_progress, _bytes(body.auth), _bytes(body.settings)
            )
        except (InvalidAppFolder, PushFailed) as error:
            raise Refused(400, "PushFailed", str(error)) from None
        return {
            "changed": report.changed,
            "version": report.code.hash,
            "functions": len(report.code.functions),
            "warnings": list(report.warnings),
        }

    def _note_progress(self, text: str) -> None:
        self._push_progress = text

    async def _progress(self, _: Request) -> object:
        return {"progress": self._push_progress}


def _read(request: Request, kind: Any) -> Any:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused(400, "BadJsonBody", f"the request body: {error}") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "BadRequest", "what should be base64 is not") from None
