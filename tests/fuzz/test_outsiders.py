"""Parsers of strangers' bytes refuse in their own way, and the hunt that says so can find what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from fuzz.outsiders.hunt import Finding, TooMuchMemory, hunt
from fuzz.outsiders.serving import serving_http, serving_sockets
from fuzz.outsiders.targets import (
    CONVERSATIONS,
    FRAMES,
    NAMED_FIELDS,
    READS,
    REQUESTS,
    TARGETS,
    WRITES,
    Target,
)
from sandbox.frames import LENGTH, decode_from_worker, encode
from storage import FieldReads, ReadSet, WriteSet
from tidewell.errors import InvalidValue
from tidewell.protocol import decode_client_message

BY_NAME = {target.name: target for target in TARGETS}
EXAMPLES = {"imports": 25, "http": 30, "sockets": 30, "websocket-bytes": 30}


@pytest.mark.parametrize("name", list(BY_NAME))
def test_nothing_that_a_stranger_says_breaks_a_parser(name: str) -> None:
    hunt(BY_NAME[name], seed=1, examples=EXAMPLES.get(name, 80))


def test_what_is_made_wrong_was_right_before() -> None:
    """Else it would be refused at the first byte, and nothing behind that would ever be reached."""
    for message in BY_NAME["client-messages"].samples():
        decode_client_message(message)
    for frame in FRAMES:
        assert decode_from_worker(encode(frame)[LENGTH.size :]) == frame
    with serving_http() as say:
        statuses = [say(request).split(b" ", 2)[1] for request in REQUESTS]
    assert statuses[:3] == [b"200", b"401", b"200"]
    assert statuses[-1] == b"101"
    with serving_sockets() as say:
        heard = say(CONVERSATIONS[0])
    assert b'"Transition"' in heard
    assert b'"MutationResponse"' in heard


@pytest.mark.parametrize("kind", [ReadSet, WriteSet, FieldReads])
def test_text_that_is_no_text_is_refused_like_all_else(kind: type[ReadSet | WriteSet | FieldReads]) -> None:
    """A worker that was taken over could end the engine with it: only other mistakes were expected there."""
    valid = {ReadSet: READS, WriteSet: WRITES, FieldReads: NAMED_FIELDS}[kind]
    for text in (b"posts", b"likes"):
        for broken in (valid.replace(text, text[:-1] + b"\xcd"), b"\x91\x93\xa1\xff\x90\x90"):
            with suppress(InvalidValue):
                kind.unpack(broken)


def careless(parse: Callable[[bytes], object]) -> Target:
    @contextmanager
    def opened() -> Iterator[Callable[[bytes], object]]:
        yield parse

    return Target("careless", lambda: [b"abcdef"], opened)


def test_a_parser_that_crashes_is_found_and_its_food_is_small() -> None:
    with pytest.raises(Finding) as found:
        hunt(careless(lambda data: 1 // (1 - data.count(b"\xff"))), seed=1)
    assert found.value.data.count(b"\xff") == 1
    assert len(found.value.data) <= 7
    assert isinstance(found.value.error, ZeroDivisionError)


def test_a_parser_that_believes_a_length_is_found() -> None:
    with pytest.raises(Finding) as found:
        hunt(careless(lambda data: bytes(data[0] << 18) if data else b""), seed=1)
    assert isinstance(found.value.error, TooMuchMemory)
