"""Capsules: one call in one file, which comes out as recorded where there is no database."""

from __future__ import annotations

import zlib
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import pytest
import trio

from engine.deployment import WORKER_ENTRY
from engine.replay.capsule import MAGIC, Capsule, InvalidCapsule, gather
from engine.replay.encapsulate import CannotEncapsulate, Made, encapsulate, replay_capsule
from engine.replay.recorded import RecordedCall
from engine.replay.redaction import Redaction
from engine.replay.replayer import Replayer
from engine.replay.source import Source
from sandbox.pool import WorkerPool
from storage import Catalog, ReadSet, Store
from tidewell.values import unpack

from ..deployed import deployed

APP = {
    "schema.py": """
        from tidewell import Id, Schema, table, v

        schema = Schema(
            people=table(name=str, mail=str, state=str).index("by_mail", "mail", unique=True),
            letters=table(to=Id["people"], text=str, sent=v.commit_ts()).index("by_to", "to"),
        )
    """,
    "post.py": """
        from tidewell import AppError, Id, mutation


        @mutation
        def join(ctx, name: str, mail: str) -> Id["people"]:
            return ctx.db.insert("people", {"name": name, "mail": mail, "state": "active"})


        @mutation
        def send(ctx, mail: str, text: str) -> Id["letters"]:
            print("a letter for", mail)
            people = ctx.db.query("people").with_index("by_mail", lambda q: q.eq("mail", mail))
            person = people.unique()
            if person["state"] != "active":
                raise AppError("not there")
            letter = {"to": person["_id"], "text": text, "sent": ctx.db.vars.commit_ts}
            return ctx.db.insert("letters", letter)


        @mutation
        def read_two(ctx) -> dict:
            page = ctx.db.query("letters").paginate({"numItems": 2, "cursor": None})
            ctx.db.delete(page["page"][0]["_id"])
            return page


        @mutation
        def parse(ctx, date: str) -> int:
            year = int(date.split("-")[0])
            ctx.db.insert("years", {"year": year})
            return year
    """,
}
WORDS = ["Ann Archer", "ann@example.org", "Ben Baker", "ben@example.org", "meet me at noon"]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("post")

    async def live() -> None:
        async with deployed(folder, APP) as it:
            await it.run("post:join", name=WORDS[0], mail=WORDS[1])
            await it.run("post:join", name=WORDS[2], mail=WORDS[3])
            for _ in range(3):
                await it.run("post:send", mail=WORDS[1], text=WORDS[4])
            await it.run("post:read_two")
            await it.run("post:parse", date="2026-11-22")

    trio.run(live)
    return folder / "data"


def one_worker(source: Source) -> AbstractAsyncContextManager[Replayer]:
    return Worker(source)


class Worker(AbstractAsyncContextManager[Replayer]):
    """A replayer of a source, with a pool of one worker."""

    def __init__(self, source: Source) -> None:
        pool = WorkerPool(entry=WORKER_ENTRY, argument=source.worker_argument, size=1)
        self._running, self._replayer = pool.running(), Replayer(source, pool)

    async def __aenter__(self) -> Replayer:
        await self._running.__aenter__()
        return self._replayer

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(*error)  # type: ignore[arg-type]  # passed on as they come


def calls(source: Source, function: str) -> list[RecordedCall]:
    recorded = [each for each in source.recorded() if isinstance(each, RecordedCall)]
    return [each for each in recorded if each.record.function == function]


async def made(data: Path, function: str, *, redact: bool = False) -> Made:
    with Source.open(data) as source:
        return await encapsulate(source, calls(source, function)[-1], one_worker, redact=redact)


@pytest.fixture(scope="module")
def sent(lived: Path) -> Made:
    """The capsule of a letter."""
    return trio.run(made, lived, "post:send")


async def test_capsule_replays_when_there_is_no_database(sent: Made) -> None:
    packed = sent.capsule.pack()
    capsule = Capsule.unpack(packed)
    replayed = await replay_capsule(capsule, one_worker)
    assert (replayed.function, replayed.divergence) == ("post:send", None)
    assert len(packed) < 4_000


async def test_capsule_holds_the_documents_that_were_read_and_no_others(sent: Made) -> None:
    capsule = sent.capsule
    [person] = [unpack(write.body) for write in capsule.read if write.body is not None]
    assert isinstance(person, dict)
    assert person["name"] == WORDS[0]
    plain = zlib.decompress(capsule.pack()[len(MAGIC) :])
    assert b"Ben Baker" not in plain


async def test_key_of_the_deployment_never_goes_along(lived: Path, sent: Made) -> None:
    """Cursors are sealed with it, and so are links to files: whoever has it can make some."""
    made_with_cursor = await made(lived, "post:read_two")
    assert made_with_cursor.is_resealed
    assert made_with_cursor.replayed.divergence is None
    key = (lived / "cursor-key").read_text().strip()
    plain = zlib.decompress(made_with_cursor.capsule.pack()[len(MAGIC) :])
    assert key.encode() not in plain
    assert bytes.fromhex(key) not in plain
    assert not sent.is_resealed


async def test_redacted_capsule_has_no_words_of_people_and_replays(lived: Path, sent: Made) -> None:
    redacted = await made(lived, "post:send", redact=True)
    capsule = Capsule.unpack(redacted.capsule.pack())
    plain = zlib.decompress(redacted.capsule.pack()[len(MAGIC) :])
    for word in WORDS:
        assert word.encode() not in plain
        assert word.partition(" ")[0].encode() not in plain
    assert redacted.replayed.divergence is None
    assert redacted.redaction is not None
    assert redacted.redaction.count == 3
    # The same string is the same everywhere, so the person is still found by the mail in the arguments.
    [person] = [unpack(write.body) for write in capsule.read if write.body is not None]
    args = unpack(capsule.record.args)
    assert isinstance(person, dict)
    assert isinstance(args, dict)
    assert person["mail"] == args["mail"]
    assert person["state"] == "active"  # the code compares with it
    assert capsule.record.steps == sent.capsule.record.steps


async def test_call_that_takes_its_words_apart_cannot_be_redacted_and_says_so(lived: Path) -> None:
    with pytest.raises(CannotEncapsulate, match="with --redact, text it takes apart is gone"):
        await made(lived, "post:parse", redact=True)


async def test_call_that_does_not_come_out_as_recorded_is_not_put_into_a_capsule(lived: Path) -> None:
    with Source.open(lived) as source:
        call = calls(source, "post:send")[0]
        spoilt = attrs.evolve(call, record=attrs.evolve(call.record, steps=1))
        with pytest.raises(CannotEncapsulate, match="`tidewell replay"):
            await encapsulate(source, spoilt, one_worker, redact=False)


def test_numbers_of_tables_and_indexes_survive_what_was_dropped(lived: Path, tmp_path: Path) -> None:
    plan = Catalog().plan()
    for name in ("one", "two", "three", "_system", "last"):
        plan.create_table(name)
    for field in ("a", "b", "c"):
        plan.add_index("two", f"by_{field}", (field,), state="ready")
    plan.add_index("three", "by_d", ("d",))
    later = plan.catalog.plan()
    later.remove_index(plan.catalog.tables["two"].indexes[1].index_id)
    later.drop_table("one")
    later.drop_table("last")
    later.set_schema("some code")
    with Source.open(lived) as source:
        capsule = attrs.evolve(gather(source.store, calls(source, "post:join")[0], ReadSet()), written=())
    capsule = attrs.evolve(capsule, catalog=later.catalog, change=None)
    capsule.unfold(tmp_path)
    with Store.open(tmp_path / "store") as store:
        assert store.catalog() == later.catalog
        assert store.catalog().next_table_number("new") == later.catalog.next_table_number("new")


def test_bytes_that_are_no_capsule_are_refused_in_one_line(lived: Path) -> None:
    with Source.open(lived) as source:
        good = gather(source.store, calls(source, "post:join")[0], ReadSet()).pack()
    assert Capsule.unpack(good).record.function == "post:join"
    bad = [b"", b"PK\x03\x04", good[:-9], good[:60], MAGIC + zlib.compress(b"\x90")]
    for place in range(len(MAGIC), len(good), 37):
        bad.append(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
    for data in bad:
        with pytest.raises(InvalidCapsule) as caught:
            Capsule.unpack(data)
        assert "\n" not in str(caught.value)


def test_redaction_keeps_ids_and_what_the_code_says() -> None:
    redaction = Redaction(Catalog(), (b'state = "draft"',))
    assert redaction.text("draft") == "draft"
    assert redaction.text("") == ""
    assert redaction.text("Ann") != "Ann"
    assert len(redaction.text("Ann")) == 3
    letters = [redaction.text(chr(code)) for code in range(200, 260)]
    assert len(set(letters)) == 60  # more than there are letters, and still all different
    assert redaction.value({"a": ["Ann", 1, None, b"xyz"]}) == {
        "a": [redaction.text("Ann"), 1, None, bytes(3)]
    }
