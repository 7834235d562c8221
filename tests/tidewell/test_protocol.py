"""Messages and their JSON: what is taken, what is refused, and the exact form of what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewell import protocol
from tidewell.protocol import (
    JsonArray,
    JsonText,
    MalformedMessage,
    Ts,
    Uint,
    Version,
    decode_client_message,
    decode_server_message,
    decode_ts,
    encode_client_message,
    encode_server_message,
    encode_ts,
    split_transition,
)

# ---- scalars ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ts", "text"),
    [(0, "AAAAAAAAAAA="), (1, "AQAAAAAAAAA="), (2**64 - 1, "//////////8="), (2**63 - 1, "/////////38=")],
)
def test_timestamp_is_eight_bytes_little_endian(ts: int, text: str) -> None:
    assert encode_ts(ts) == text
    assert decode_ts(text) == ts


@given(st.integers(0, 2**64 - 1))
def test_timestamp_survives_the_wire(ts: int) -> None:
    text = encode_ts(ts)
    assert len(text) == 12
    assert decode_ts(text) == ts


@pytest.mark.parametrize(
    "text", ["", "AAAA", "AAAAAAAAAAAAAAAA", "AAAAAAAAAA", "AAAAAAAAAA_=", "ä" * 12, " AAAAAAAAAAA="]
)
def test_text_that_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        decode_ts(text)


# ---- client messages -----------------------------------------------------------------


def test_messages_of_the_official_clients_are_read() -> None:
    assert decode_client_message(
        '{"type":"Connect","sessionId":"6d0e","connectionCount":2,"lastCloseReason":null,'
        '"maxObservedTimestamp":"AQAAAAAAAAA=","clientTs":1795360169943}'
    ) == protocol.Connect("6d0e", Uint(2), None, Ts(1), 1795360169943)
    assert decode_client_message(
        '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":['
        '{"type":"Add","queryId":0,"udfPath":"a:b","args":[{"x":1}],"journal":null},'
        '{"type":"Remove","queryId":3}]}'
    ) == protocol.ModifyQuerySet(
        Uint(0),
        Uint(1),
        [protocol.Add(Uint(0), "a:b", JsonArray([{"x": 1}])), protocol.Remove(Uint(3))],
    )
    assert decode_client_message(
        '{"type":"Mutation","requestId":7,"udfPath":"a:b","args":[{}]}'
    ) == protocol.Mutation(Uint(7), "a:b", JsonArray([{}]))
    assert decode_client_message(
        '{"type":"Authenticate","baseVersion":1,"tokenType":"Admin","value":"k","acting_as":{"issuer":"i"}}'
    ) == protocol.Authenticate(Uint(1), "Admin", "k", None, protocol.JsonObject({"issuer": "i"}))


def test_journal_may_be_absent_null_or_text() -> None:
    for field, expected in (("", None), (',"journal":null', None), (',"journal":"j"', "j")):
        message = decode_client_message(
            '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":'
            '[{"type":"Add","queryId":0,"udfPath":"a:b"' + field + "}]}"
        )
        assert isinstance(message, protocol.ModifyQuerySet)
        (change,) = message.modifications
        assert isinstance(change, protocol.Add)
        assert change.journal == expected
        assert change.args == [{}]


def test_unknown_fields_are_ignored() -> None:
    message = decode_client_message('{"type":"Event","eventType":"x","event":[1],"new":{"a":[]}}')
    assert message == protocol.Event("x", protocol.JsonTree([1]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "malformed JSON"),
        ("[]", "expected a client message"),
        ("{}", "unknown client message type None"),
        ('{"type":"Transition"}', "unknown client message type 'Transition'"),
        ('{"type":{}}', "unknown client message type"),
        ('{"type":"Mutation","requestId":0,"udfPath":"a"}', "missing or unknown 'args'"),
        ('{"type":"Mutation","requestId":1.0,"udfPath":"a","args":[]}', "expected an integer"),
        ('{"type":"Mutation","requestId":"1","udfPath":"a","args":[]}', "expected an integer"),
        ('{"type":"Mutation","requestId":true,"udfPath":"a","args":[]}', "expected an integer"),
        ('{"type":"Mutation","requestId":-1,"udfPath":"a","args":[]}', "expected an integer"),
        ('{"type":"Mutation","requestId":4294967296,"udfPath":"a","args":[]}', "expected an integer"),
        ('{"type":"Mutation","requestId":1,"udfPath":3,"args":[]}', "expected a string"),
        ('{"type":"Mutation","requestId":1,"udfPath":"a","args":{}}', "expected an array"),
        ('{"type":"Connect","sessionId":"s","connectionCount":0,"clientTs":"1"}', "expected a number"),
        ('{"type":"Connect","sessionId":"s","connectionCount":0,"lastCloseReason":1}', "expected a string"),
        ('{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":{}}', "expected an array"),
        (
            '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[1]}',
            "expected an object",
        ),
        (
            '{"type":"Authenticate","baseVersion":0,"tokenType":"Admin","impersonating":[]}',
            "expected an object",
        ),
        ('{"type":"Mutation","requestId":NaN,"udfPath":"a","args":[]}', "NaN is not JSON"),
        ("[" * 100_000, "malformed JSON"),
    ],
)
def test_malformed_message_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(MalformedMessage, match=problem):
        decode_client_message(text)


def test_problem_names_the_place() -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_client_message(
            '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,'
            '"modifications":[{"type":"Remove","queryId":1},{"type":"Remove","queryId":"x"}]}'
        )
    assert ".modifications[1].query_id" in str(caught.value)


def test_lone_surrogate_reaches_the_call() -> None:
    message = decode_client_message('{"type":"Mutation","requestId":1,"udfPath":"a","args":["\\ud800"]}')
    assert isinstance(message, protocol.Mutation)
    assert message.args == ["\ud800"]


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_anything_else_is_refused_in_one_way(data: bytes | str) -> None:
    with pytest.raises(MalformedMessage):
        decode_client_message(data)


json_trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**33)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = (
    "sessionId", "connectionCount", "baseVersion", "newVersion", "modifications", "requestId", "udfPath",
    "args", "tokenType", "value", "eventType", "event", "queryId", "journal", "maxObservedTimestamp",
)  # fmt: skip
TYPES = ("Connect", "ModifyQuerySet", "Mutation", "Action", "Authenticate", "Event", "Add", "Ping")


@given(st.dictionaries(st.sampled_from(FIELDS), json_trees), st.sampled_from(TYPES))
def test_message_of_random_fields_is_read_or_refused(fields: dict[str, Any], kind: str) -> None:
    try:
        decode_client_message(json.dumps({**fields, "type": kind}))
    except MalformedMessage:
        return


# ---- server messages -------------------------------------------------------------------


def test_value_is_spliced_as_it_stands() -> None:
    value = JsonText(b'{"n":  1.0e0, "t":"\xc3\xa9"}')  # spaces and all
    message = protocol.Transition(Version(), Version(), [protocol.QueryUpdated(Uint(0), value, [])])
    assert value in encode_server_message(message)


def test_error_data_is_absent_or_present_and_null_is_present() -> None:
    absent = protocol.ActionResponse(Uint(0), False, protocol.json_string("x"), [])
    null = protocol.ActionResponse(Uint(0), False, protocol.json_string("x"), [], JsonText(b"null"))
    assert "errorData" not in json.loads(encode_server_message(absent))
    assert json.loads(encode_server_message(null))["errorData"] is None
    assert decode_server_message(encode_server_message(null)) == null
    assert decode_server_message(encode_server_message(absent)) == absent


def test_clock_fields_are_left_out_and_never_null() -> None:
    plain = protocol.Transition(Version(), Version(), [])
    assert json.loads(encode_server_message(plain)).keys() == {
        "type",
        "startVersion",
        "endVersion",
        "modifications",
    }
    full = protocol.Transition(Version(), Version(), [], -1.5, 1795360169955000001)
    assert b'"serverTs":1795360169955000001' in encode_server_message(full)
    assert b'"clientClockSkew":-1.5' in encode_server_message(full)


def test_journal_and_log_lines_are_always_sent() -> None:
    for change in (
        protocol.QueryUpdated(Uint(0), JsonText(b"1.0"), []),
        protocol.QueryFailed(Uint(0), "x", []),
    ):
        message = protocol.Transition(Version(), Version(), [change])
        (sent,) = json.loads(encode_server_message(message))["modifications"]
        assert sent["journal"] is None
        assert sent["logLines"] == []


def test_failed_mutation_has_a_null_timestamp() -> None:
    message = protocol.MutationResponse(Uint(0), False, protocol.json_string("x"), [])
    assert json.loads(encode_server_message(message))["ts"] is None


def test_text_that_is_not_unicode_is_replaced() -> None:
    assert json.loads(protocol.json_string("a\ud800b")) == "a?b"


VERSIONS = st.builds(Version, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
TEXTS = st.text(max_size=10)
NUMBERS = st.integers(0, 2**32 - 1)
VALUES = json_trees.map(lambda tree: JsonText(protocol.msgspec.json.encode(tree)))
ERROR_DATA = st.just(protocol.NO_JSON) | VALUES
LOGS = st.lists(TEXTS, max_size=2)
JOURNALS = st.none() | TEXTS
CHANGES = (
    st.builds(protocol.QueryUpdated, NUMBERS, VALUES, LOGS, JOURNALS)
    | st.builds(protocol.QueryFailed, NUMBERS, TEXTS, LOGS, JOURNALS, ERROR_DATA)
    | st.builds(protocol.QueryRemoved, NUMBERS)
)
SERVER_MESSAGES = (
    st.builds(protocol.Transition, VERSIONS, VERSIONS, st.lists(CHANGES, max_size=3))
    | st.builds(protocol.TransitionChunk, TEXTS, NUMBERS, NUMBERS, TEXTS)
    | st.builds(
        protocol.MutationResponse,
        NUMBERS, st.booleans(), VALUES, LOGS, st.none() | st.integers(0, 2**63), ERROR_DATA,
    )
    | st.builds(protocol.ActionResponse, NUMBERS, st.booleans(), VALUES, LOGS, ERROR_DATA)
    | st.builds(protocol.AuthError, TEXTS, NUMBERS, st.booleans())
    | st.builds(protocol.FatalError, TEXTS)
    | st.just(protocol.Ping())
)  # fmt: skip
CLIENT_MESSAGES = (
    st.builds(protocol.Connect, TEXTS, NUMBERS, st.none() | TEXTS, st.none() | st.integers(0, 2**64 - 1))
    | st.builds(
        protocol.ModifyQuerySet,
        NUMBERS,
        NUMBERS,
        st.lists(
            st.builds(protocol.Add, NUMBERS, TEXTS, st.just([{}]), JOURNALS)
            | st.builds(protocol.Remove, NUMBERS),
            max_size=3,
        ),
    )
    | st.builds(protocol.Mutation, NUMBERS, TEXTS, st.lists(json_trees, max_size=2))
    | st.builds(protocol.Action, NUMBERS, TEXTS, st.lists(json_trees, max_size=2))
    | st.builds(protocol.Authenticate, NUMBERS, TEXTS, st.none() | TEXTS)
    | st.builds(protocol.Event, TEXTS, json_trees)
)


@given(SERVER_MESSAGES)
def test_server_message_survives_the_wire(message: protocol.ServerMessage) -> None:
    assert decode_server_message(encode_server_message(message)) == message


@given(CLIENT_MESSAGES)
def test_client_message_survives_the_wire(message: protocol.ClientMessage) -> None:
    assert decode_client_message(encode_client_message(message)) == message


# ---- chunks ------------------------------------------------------------------------------


@given(st.text(min_size=1), st.integers(4, 20))
def test_chunks_join_to_the_message(text: str, size: int) -> None:
    data = text.encode(errors="replace")
    chunks = [decode_server_message(part) for part in split_transition(data, "id", size)]
    assert all(isinstance(chunk, protocol.TransitionChunk) for chunk in chunks)
    parts = [chunk for chunk in chunks if isinstance(chunk, protocol.TransitionChunk)]
    assert "".join(part.chunk for part in parts).encode() == data
    assert all(len(part.chunk.encode()) <= size for part in parts)
    assert [part.part_number for part in parts] == list(range(len(parts)))
    assert {(part.total_parts, part.transition_id) for part in parts} == {(len(parts), "id")}
