"""Users with tokens, end to end: their provider, the official client, pushes of the declaration."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from .harness import DEADLINE_S, Server

MODULE = """
from tidewell import mutation, query


@query
def who(ctx):
    return ctx.auth.get_user_identity()


@mutation
def touch(ctx, name: str):
    identity = ctx.auth.get_user_identity()
    ctx.db.insert("touches", {"name": name})
    return identity and identity["subject"]


@query
def touches(ctx, name: str) -> int:
    return len([row for row in ctx.db.query("touches").collect() if row["name"] == name])
"""
PAGE = """
<!doctype html>
<title>Who is it?</title>
<p id="who"></p>
<p id="auth"></p>
<script type="module">
  import { TidewellClient } from "/tidewell.js";

  const show = (id, text) => (document.getElementById(id).textContent = text);
  window.client = new TidewellClient(location.origin);
  client.subscribe("me:who", {}, (identity) => show("who", identity?.subject ?? "nobody"));
  window.signIn = () =>
    client.setAuth(
      ({ forceRefreshToken }) => fetchToken(forceRefreshToken),
      (isAuthenticated) => show("auth", isAuthenticated),
    );
</script>
"""
PRIVATE = ec.generate_private_key(ec.SECP256R1())
KEYS = {"keys": [{**json.loads(ECAlgorithm.to_jwk(PRIVATE.public_key())), "kid": "test"}]}
PROVIDER = {
    "type": "customJwt",
    "issuer": "${AUTH_ISSUER}",
    "jwks": "${AUTH_ISSUER}/keys",
    "algorithm": "ES256",
    "applicationID": "the-app",
}
NEVER = 2**32


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A provider on this machine that hands out its keys; its address is in the environment of servers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(KEYS).encode()
            self.send_response(200 if self.path == "/keys" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}"
        monkeypatch.setenv("AUTH_ISSUER", address)
        yield address
        web.shutdown()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app" / "functions"
    folder.mkdir(parents=True)
    (folder / "me.py").write_text(MODULE)
    declare(folder, PROVIDER)
    return folder


def declare(app: Path, *providers: dict[str, Any]) -> None:
    (app / "auth.config.json").write_text(json.dumps({"providers": providers}))


def token(issuer: str, subject: str) -> str:
    claims = {"iss": issuer, "aud": "the-app", "sub": subject, "exp": NEVER}
    return jwt.encode(claims, PRIVATE, "ES256", {"kid": "test"})


def signing_key() -> str:
    return PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def who(server: Server, bearer: str) -> tuple[int, Any]:
    """The status and the identity, or the error code, of a call with a token."""
    body = json.dumps({"path": "me:who", "args": {}, "format": "json"}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {bearer}"}
    request = urllib.request.Request(f"{server.url}/api/query", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return response.status, json.load(response)["value"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["code"]


def test_npm_client_signs_users_in(
    app: Path, issuer: str, serve: Callable[..., Server], run_node_tests: Callable[..., None]
) -> None:
    server = serve(app)
    run_node_tests("auth.test.js", TIDEWELL_URL=server.url, ISSUER=issuer, SIGNING_KEY=signing_key())


def test_page_without_a_build_step_signs_users_in(
    app: Path,
    issuer: str,
    serve: Callable[..., Server],
    run_node_tests: Callable[..., None],
    chromium: str,
) -> None:
    (app.parent / "page").mkdir()
    (app.parent / "page" / "index.html").write_text(PAGE)
    server = serve(app)
    run_node_tests(
        "page_auth.test.js",
        TIDEWELL_URL=server.url,
        ISSUER=issuer,
        SIGNING_KEY=signing_key(),
        CHROMIUM=chromium,
    )


def test_declaration_is_pushed_on_save_and_a_wrong_one_changes_nothing(
    app: Path, issuer: str, serve: Callable[..., Server]
) -> None:
    server = serve(app)
    ada = token(issuer, "ada")
    assert who(server, ada) == (
        200,
        {"issuer": issuer, "subject": "ada", "tokenIdentifier": f"{issuer}|ada"},
    )

    seen = len(server.process.lines)
    declare(app, {**PROVIDER, "algorithm": "HS256"})
    server.process.wait_for_line(r"Push failed; the last good version stays in force", seen)
    server.process.wait_for_line(r"auth\.config\.json: providers\[0\]\.algorithm: ", seen)
    assert who(server, ada)[0] == 200

    seen = len(server.process.lines)
    declare(app, {**PROVIDER, "issuer": "${NOT_SET}"})
    server.process.wait_for_line(r"providers\[0\]\.issuer: the environment variable 'NOT_SET'", seen)

    seen = len(server.process.lines)
    declare(app, {**PROVIDER, "applicationID": "another"})
    server.process.wait_for_line(r"Pushed", seen)
    assert who(server, ada) == (401, "NoAuthProvider")


def test_provider_out_of_reach_is_said_in_the_log_and_not_to_clients(
    app: Path, issuer: str, serve: Callable[..., Server]
) -> None:
    declare(app, {**PROVIDER, "jwks": "${AUTH_ISSUER}/gone"})
    server = serve(app)
    assert who(server, token(issuer, "ada")) == (401, "Unauthenticated")
    server.process.wait_for_line(r"could not be fetched: .*/gone: answered with status 404")
