"""The wall without any privilege: an ordinary user's server confines its workers too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.confinement.layers import LAYERS, MANDATORY

TESTS = Path(__file__).resolve().parent.parent


def run_as_nobody(mode: str) -> dict[str, Any]:
    program = [str(TESTS / "as_nobody_program.py"), mode]
    if os.geteuid() == 0:
        program = [str(TESTS / "as_nobody.py"), *program]
    done = subprocess.run(
        [sys.executable, "-B", *program],
        env={
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent.parent), str(TESTS), str(TESTS / "entries")]),
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["uid"] != 0
    return dict(seen)


@pytest.mark.parametrize("mode", ["namespaces", "no namespaces"])
def test_one_without_privilege_has_every_mandatory_layer(mode: str) -> None:
    seen = run_as_nobody(mode)
    assert seen["kinds"] == {
        "echo": "answered",
        "open": "security",
        "spin": "cpu",
        "hog": "memory",
        "spin, engine stuck": "SIGXCPU",
    }
    assert all(seen["layers"][name] for name in MANDATORY)
    assert not seen["layers"]["ids"]
    assert "not privileged" in seen["notes"]["ids"]
    assert seen["layers"].keys() == LAYERS.keys()


def test_one_without_privilege_has_namespaces_where_the_kernel_permits_them() -> None:
    seen = run_as_nobody("namespaces")
    if not seen["layers"]["namespaces"]:
        assert "user namespaces are refused" in seen["notes"]["namespaces"]
    else:
        assert seen["layers"]["empty_root"]
