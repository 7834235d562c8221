"""`auth.config.json`: what it may say, what is said of it when it is wrong, and that it is part of a push."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.app_folder import InvalidAppFolder, read_app_folder, read_auth
from engine.auth_config import InvalidAuthConfig, expand, read_providers
from engine.push import PushFailed

from .deployed import Deployed, deployed, write_app
from .tokens import AUDIENCE, ISSUER, custom, data_uri, ec_key, key_set, rsa_key

RSA, EC = rsa_key(), ec_key()
OIDC = {"domain": "issuer.example", "applicationID": AUDIENCE}
MODULES = {"me.py": "from tidewell import query\n\n@query\ndef who(ctx):\n    return None\n"}


def config(*entries: Any) -> bytes:
    return json.dumps({"providers": entries}).encode()


def test_both_forms_are_read() -> None:
    oidc, jwt = read_providers(config(OIDC, custom(RSA)))
    assert (oidc.issuer, oidc.audience, oidc.is_oidc) == (ISSUER, AUDIENCE, True)
    assert oidc.jwks == f"{ISSUER}/.well-known/openid-configuration"
    assert (jwt.issuer, jwt.algorithms, jwt.is_oidc) == (ISSUER, ("RS256",), False)


def test_no_file_is_no_providers() -> None:
    assert read_providers(b"") == ()


@pytest.mark.parametrize(
    "jwks", ["data:,%7B%22keys%22%3A%5B{}%5D%7D", 'data:text/plain;charset=utf-8,{{"keys":[{}]}}']
)
def test_data_uri_may_be_percent_encoded(jwks: str) -> None:
    [provider] = read_providers(config(custom(RSA, jwks=jwks.format(json.dumps(RSA.jwk)))))
    assert not provider.is_oidc


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ([], "providers"),
        ({}, "providers"),
        ({"providers": {}}, "providers"),
        ({"providers": [], "provider": 1}, "provider"),
        ({"providers": [OIDC] * 100}, "providers"),
        ({"providers": ["text"]}, "providers[0]"),
        ({"providers": [OIDC, {"applicationID": "x"}]}, "providers[1].domain"),
        ({"providers": [{"domain": "x.example"}]}, "providers[0].applicationID"),
        ({"providers": [{**OIDC, "applicationID": ""}]}, "providers[0].applicationID"),
        ({"providers": [{**OIDC, "applicationId": "x"}]}, "providers[0].applicationId"),
        ({"providers": [{**OIDC, "domain": "http://issuer.example"}]}, "providers[0].domain"),
        ({"providers": [{**OIDC, "domain": "ftp://issuer.example"}]}, "providers[0].domain"),
        ({"providers": [{**OIDC, "domain": "user:secret@issuer.example"}]}, "providers[0].domain"),
        ({"providers": [{**OIDC, "domain": "issuer.example:port"}]}, "providers[0].domain"),
        ({"providers": [custom(RSA, type="saml")]}, "providers[0].type"),
        ({"providers": [custom(RSA, issuer=None)]}, "providers[0].issuer"),
        ({"providers": [custom(RSA, applicationID=7)]}, "providers[0].applicationID"),
        ({"providers": [custom(RSA, algorithm="HS256")]}, "providers[0].algorithm"),
        ({"providers": [custom(RSA, algorithm="none")]}, "providers[0].algorithm"),
        ({"providers": [custom(RSA, algorithm=None)]}, "providers[0].algorithm"),
        ({"providers": [custom(RSA, jwks=None)]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks="keys.json")]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks="file:keys.json")]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks="http://10.0.0.1/keys")]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks="data:nothing")]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks="data:;base64,???")]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks=data_uri([]))]}, "providers[0].jwks"),
        ({"providers": [custom(RSA, jwks=data_uri(key_set(EC)))]}, "providers[0].jwks"),
        (
            {"providers": [custom(RSA, jwks=data_uri({"keys": [{**RSA.jwk, "d": "AQ"}]}))]},
            "providers[0].jwks",
        ),
    ],
)
def test_mistake_is_named_by_its_field(tree: Any, field: str) -> None:
    with pytest.raises(InvalidAuthConfig) as error:
        read_providers(json.dumps(tree).encode())
    assert str(error.value).startswith(f"auth.config.json: {field}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100_000, b" " * 300_000])
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidAuthConfig, match=r"^auth\.config\.json: "):
        read_providers(text)


def test_plain_http_is_for_this_machine() -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        read_providers(config(custom(RSA, jwks=f"http://{host}:8000/keys")))


# ---- variables and files --------------------------------------------------------------------


def no_file(_: str) -> None:
    return None


def test_variables_are_put_in_anywhere_in_a_text_and_never_change_the_structure() -> None:
    text = config(custom(RSA, issuer="https://${HOST}/${PATH}"))
    expanded = expand(text, {"HOST": "x.example", "PATH": 'a"}, "b'}, no_file)
    assert json.loads(expanded)["providers"][0]["issuer"] == 'https://x.example/a"}, "b'


def test_variable_that_is_not_set_is_named_with_its_field() -> None:
    with pytest.raises(
        InvalidAuthConfig,
        match=r"\[0\]\.issuer: .*'HOST' is not set; set it with `tidewell env set HOST",
    ):
        expand(config(custom(RSA, issuer="${HOST}")), {}, no_file)


def app_with(folder: Path, entry: dict[str, Any], **files: str) -> Path:
    app = write_app(folder / "app", {**MODULES, **files})
    (app / "auth.config.json").write_bytes(config(entry))
    return app


def test_key_file_of_the_app_becomes_part_of_what_is_pushed(tmp_path: Path) -> None:
    app = app_with(tmp_path, custom(RSA, jwks="file:keys.json"))
    (app / "keys.json").write_text(json.dumps(key_set(RSA)))
    auth = read_auth(app, {})
    (app / "keys.json").unlink()
    assert len(read_providers(auth)) == 1


@pytest.mark.parametrize("name", ["gone.json", "../secret.json", "link.json", "/etc/hostname", "a\0b", "."])
def test_only_files_of_the_app_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_text(json.dumps(key_set(RSA)))
    app = app_with(tmp_path, custom(RSA, jwks=f"file:{name}"))
    (app / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(InvalidAppFolder, match=r"providers\[0\]\.jwks: there is no file"):
        read_auth(app, {})


# ---- as part of a push ------------------------------------------------------------------------


async def push(it: Deployed, app: Path, auth: bytes) -> bool:
    report = await it.deployment.push(read_app_folder(app), str, auth)
    return report.changed


async def test_providers_and_code_change_together_or_not_at_all(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", MODULES)
    async with deployed(tmp_path) as it:
        assert await push(it, app, b"")
        assert it.deployment.providers() == ()
        assert await push(it, app, config(custom(RSA)))
        assert not await push(it, app, config(custom(RSA)))
        [good] = it.deployment.providers()
        (app / "me.py").write_text(MODULES["me.py"].replace("who", "what"))
        with pytest.raises(PushFailed, match=r"providers\[0\]\.algorithm"):
            await push(it, app, config(custom(RSA, algorithm="HS256")))
        assert it.deployment.kind_of("me:who") == "query"
        (app / "me.py").write_text("syntax error")
        with pytest.raises(PushFailed):
            await push(it, app, config(OIDC))
        assert it.deployment.providers() == (good,)


async def test_providers_stay_in_force_over_a_restart(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", MODULES)
    async with deployed(tmp_path) as it:
        await push(it, app, config(custom(RSA)))
    async with deployed(tmp_path) as it:
        assert [provider.issuer for provider in it.deployment.providers()] == [ISSUER]
