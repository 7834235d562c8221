"""URLs of files and uploads: what one side makes, the other reads, and nobody else makes."""

from __future__ import annotations

import random
import string
import uuid

import pytest

from sandbox.file_links import UPLOAD_VALID_MS, FileLinks

NOW_MS = 1_795_360_169_955.5
OURS, THEIRS = FileLinks(b"k" * 32), FileLinks(b"l" * 32)


def test_link_is_read_back_by_its_own_deployment_alone() -> None:
    chance = random.Random(7)
    for _ in range(200):
        internal_id = chance.randbytes(16)
        link = OURS.link(internal_id)
        assert str(uuid.UUID(link)) == link
        assert OURS.read_link(link) == internal_id
        assert THEIRS.read_link(link) != internal_id
        assert uuid.UUID(link).bytes != internal_id


def test_near_ids_have_links_that_are_not_alike() -> None:
    links = {uuid.UUID(OURS.link(bytes(15) + bytes([last]))).bytes[:8] for last in range(256)}
    assert len(links) == 256


@pytest.mark.parametrize(
    "text", ["", "x", "0" * 32, OURS.link(bytes(16)).upper(), OURS.link(bytes(16)) + "0"]
)
def test_text_of_another_form_is_no_link(text: str) -> None:
    assert OURS.read_link(text) is None


def test_upload_token_is_good_for_an_hour_in_its_own_deployment() -> None:
    token = OURS.upload_token(NOW_MS, bytes(16))
    assert OURS.is_upload_token(token, NOW_MS)
    assert OURS.is_upload_token(token, NOW_MS + UPLOAD_VALID_MS - 1)
    assert not OURS.is_upload_token(token, NOW_MS + UPLOAD_VALID_MS)
    assert not THEIRS.is_upload_token(token, NOW_MS)
    assert OURS.upload_token(NOW_MS, b"x" * 16) != token


@pytest.mark.parametrize("place", [0, 7, 12, 25, 40, -1])
def test_changed_upload_token_is_none(place: int) -> None:
    token = list(OURS.upload_token(NOW_MS, bytes(16)))
    token[place] = "A" if token[place] != "A" else "Q"
    assert not OURS.is_upload_token("".join(token), NOW_MS)


def test_upload_token_has_one_text() -> None:
    # 40 bytes take 53 characters and two bits of another one: four bits could be anything.
    token = OURS.upload_token(NOW_MS, bytes(16))
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    assert [last for last in alphabet if OURS.is_upload_token(token[:-1] + last, NOW_MS)] == [token[-1]]


@pytest.mark.parametrize("token", ["", "A", "é", "A" * 54, "A" * 10_000])
def test_text_is_no_upload_token(token: str) -> None:
    assert not OURS.is_upload_token(token, NOW_MS)
