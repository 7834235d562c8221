"""Front ends as the public quick starts write them: React on the official client, in Chromium or jsdom.

A chat list, an infinite scroll, a form with an optimistic update and a page for those who have signed in.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from .conftest import install_packages
from .harness import APPS, DEADLINE_S, HERE, WAYPOINT, Server

ISSUER = "https://door.example"


def build_page(node: str, scratch: Path, page: Path) -> None:
    """Build the front end with the packages of Waypoint's, which are the ones that its users have."""
    install_packages(WAYPOINT / "web")
    web = scratch / "web"
    shutil.copytree(HERE / "shapes", web)
    (web / "node_modules").symlink_to(WAYPOINT / "web" / "node_modules")
    vite = web / "node_modules" / "vite" / "bin" / "vite.js"
    command = [node, vite, "build", "--outDir", page, "--emptyOutDir"]
    done = subprocess.run(command, cwd=web, capture_output=True, text=True, timeout=4 * DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def declare_provider(functions: Path) -> str:
    """Make a key, and declare the provider that signs with it; gives the key."""
    private = ec.generate_private_key(ec.SECP256R1())
    keys = {"keys": [{**json.loads(ECAlgorithm.to_jwk(private.public_key())), "kid": "test"}]}
    (functions / "keys.json").write_text(json.dumps(keys))
    provider = {"type": "customJwt", "issuer": ISSUER, "jwks": "file:keys.json", "algorithm": "ES256"}
    declaration = {"providers": [{**provider, "applicationID": "the-app"}]}
    (functions / "auth.config.json").write_text(json.dumps(declaration))
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_public_shapes_in_two_windows(
    serve: Callable[..., Server],
    run_node_tests: Callable[..., None],
    node: str,
    chromium: str,
    tmp_path: Path,
) -> None:
    functions = tmp_path / "app" / "functions"
    shutil.copytree(APPS / "shapes", functions, ignore=shutil.ignore_patterns("__pycache__"))
    signing_key = declare_provider(functions)
    build_page(node, tmp_path, functions.parent / "page")
    server = serve(functions)
    run_node_tests(
        "shapes.test.js",
        TIDEWELL_URL=server.url,
        FUNCTIONS=str(functions),
        CHROMIUM=chromium,
        ISSUER=ISSUER,
        SIGNING_KEY=signing_key,
    )


def test_hooks_and_clients_of_the_package(
    serve: Callable[..., Server], run_node_tests: Callable[..., None], tmp_path: Path
) -> None:
    functions = tmp_path / "app" / "functions"
    shutil.copytree(APPS / "shapes", functions, ignore=shutil.ignore_patterns("__pycache__"))
    signing_key = declare_provider(functions)
    server = serve(functions)
    run_node_tests("hooks.test.js", TIDEWELL_URL=server.url, ISSUER=ISSUER, SIGNING_KEY=signing_key)
