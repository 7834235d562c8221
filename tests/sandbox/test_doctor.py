"""The doctor says what the wall is made of."""

from __future__ import annotations

from sandbox.confinement import selftest
from sandbox.confinement.layers import LAYERS, MANDATORY
from sandbox.doctor import examine


def test_doctor_finds_every_mandatory_layer_in_force() -> None:
    diagnosis = examine()
    assert diagnosis.would_serve, diagnosis.fault
    assert [layer.name for layer in diagnosis.layers] == list(LAYERS)
    for layer in diagnosis.layers:
        assert layer.is_mandatory == (layer.name in MANDATORY)
        assert layer.is_in_force or not layer.is_mandatory
        assert layer.is_in_force == (not layer.why_not)


def test_doctor_makes_every_attempt_of_the_self_test() -> None:
    assert examine().attempts == dict.fromkeys(selftest.ATTEMPTS, True)


def test_doctor_says_which_mandatory_layer_is_missing_and_why() -> None:
    diagnosis = examine(frozenset({"namespaces"}), with_namespaces=False)
    assert not diagnosis.would_serve
    assert diagnosis.fault.startswith("namespaces (")
    assert "not asked for" in diagnosis.fault
    assert {layer.name for layer in diagnosis.layers if layer.is_mandatory} == MANDATORY | {"namespaces"}
