"""Claims that records name: one row for each set, there for as long as a record needs it, and no longer."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

from engine.backend import BackendFault, Identity
from engine.cli import main
from engine.history import History, Wanted
from engine.kept_claims import (
    PREFIX,
    RENEWED_NS,
    KeptClaims,
    KnownClaims,
    LostClaims,
    claims_name,
)
from engine.records import RECORD_VERSION, unpack_record
from storage import Commit, DiskFull, RetentionPolicy, SharedStore, Store
from tidewell.values import pack

from .deployed import Disk, call, deployed

ANN = pack({"issuer": "https://issuer.example", "name": "Ann", "subject": "1"})
BEN = pack({"issuer": "https://issuer.example", "name": "Ben", "subject": "2"})
HOUR_NS = RENEWED_NS
START = 1_800_000_000 * 10**9


@attrs.define
class Writer:
    """A store that commits nothing but rows of claims."""

    store: Store
    claims: KeptClaims

    def commit(self, identity: bytes, ts: int) -> bool:
        """Commit what a call with that identity needs; return whether it took a row along."""
        rows = tuple(self.claims.rows(identity, ts))
        self.store.commit([Commit(ts, private=rows)])
        return bool(rows)

    def sweep(self, horizon: int) -> int:
        """Commit the removals of one step; return how many."""
        rows = tuple(self.claims.unneeded_rows(horizon))
        self.store.commit([Commit(self.store.head_ts + 1, private=rows)])
        return len(rows)

    @property
    def kept(self) -> set[bytes]:
        return {row[8:] for _, row in self.store.private_items(PREFIX)}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Store.open(tmp_path / "store", sync=False) as store:
        yield Writer(store, KeptClaims(store))


def test_a_row_is_written_for_the_first_commit_and_not_again_within_the_hour(writer: Writer) -> None:
    assert writer.commit(ANN, START)
    assert not writer.commit(ANN, START + HOUR_NS)
    assert writer.commit(BEN, START + HOUR_NS + 1)
    assert writer.commit(ANN, START + HOUR_NS + 2)
    assert writer.kept == {ANN, BEN}


def test_who_writes_after_a_restart_knows_what_is_there(writer: Writer) -> None:
    writer.commit(ANN, START)
    writer.claims = KeptClaims(writer.store)
    assert not writer.commit(ANN, START + 1)


@pytest.mark.parametrize("identity", [pack(None), pack({}), pack({"subject": "ann"})])
def test_claims_as_short_as_a_name_stay_in_the_record(writer: Writer, identity: bytes) -> None:
    assert not claims_name(identity)
    assert not writer.commit(identity, START)


def test_a_row_goes_when_no_record_after_the_horizon_can_name_it(writer: Writer) -> None:
    writer.commit(ANN, START)
    last = START + HOUR_NS
    writer.commit(ANN, last)  # relies on the row of the first
    assert writer.sweep(horizon=last) == 0
    assert writer.sweep(horizon=last + 1) == 1
    assert writer.kept == set()
    assert writer.commit(ANN, last + 3), "it comes back with the next commit that needs it"


def test_a_row_that_is_about_to_be_renewed_stays(writer: Writer) -> None:
    """The row in the store is old, and a commit that is on its way there relies on the new one."""
    writer.commit(ANN, START)
    now = START + 20 * HOUR_NS
    on_its_way = tuple(writer.claims.rows(ANN, now))
    assert writer.claims.unneeded_rows(now - 1) == []
    writer.store.commit([Commit(now, private=on_its_way)])
    assert writer.kept == {ANN}


def test_steps_come_round_to_every_row(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.kept_claims.SWEEP_ROWS_MAX", 3)
    people = [pack({"issuer": "https://issuer.example", "subject": str(number)}) for number in range(7)]
    for number, claims in enumerate(people):
        writer.commit(claims, START + number)
    late = START + 5 * HOUR_NS
    writer.commit(people[3], late)
    assert [writer.sweep(late - 1) for _ in range(3)].count(0) == 0
    assert writer.kept == {people[3]}
    writer.sweep(late - 1)
    assert writer.kept == {people[3]}


def test_rows_of_commits_that_were_taken_back_are_written_again(writer: Writer) -> None:
    assert tuple(writer.claims.rows(ANN, START)), "and the store refuses the commit"
    writer.claims.forget_stamps()
    assert writer.commit(ANN, START + 1)


@pytest.mark.parametrize("seed", range(20))
def test_every_record_after_the_horizon_has_its_row(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits wait in line with the removals, are taken back, and the server starts again."""
    monkeypatch.setattr("engine.kept_claims.SWEEP_ROWS_MAX", 2)
    dice = random.Random(seed)
    people = [pack({"issuer": "https://issuer.example", "subject": str(number)}) for number in range(5)]
    ts, horizon = START, START
    waiting: list[tuple[Commit, bytes | None]] = []
    records: list[tuple[int, bytes]] = []
    with Store.open(tmp_path / "store", sync=False) as store:
        claims = KeptClaims(store)
        for _ in range(150):
            ts += dice.choice([1, 1, 1, HOUR_NS // 3, HOUR_NS, 3 * HOUR_NS])
            what = dice.choice(["call", "call", "call", "sweep", "durable", "refused", "restart"])
            if what == "call":
                caller = dice.choice(people)
                waiting.append((Commit(ts, private=tuple(claims.rows(caller, ts))), caller))
            elif what == "sweep":
                horizon = max(horizon, min(store.head_ts, ts - dice.choice([0, 1, 2, 6]) * HOUR_NS))
                waiting.append((Commit(ts, private=tuple(claims.unneeded_rows(horizon))), None))
            elif what == "refused":
                waiting.clear()
                claims.forget_stamps()
            else:
                store.commit([commit for commit, _ in waiting])
                records += [(commit.ts, caller) for commit, caller in waiting if caller is not None]
                waiting.clear()
                if what == "restart":
                    claims = KeptClaims(store)
            known = KnownClaims(store)
            for at, caller in records:
                if at > horizon:
                    assert known.packed(claims_name(caller)) == caller, (seed, at)


def test_claims_that_are_lost_are_told_in_one_line(writer: Writer) -> None:
    with pytest.raises(LostClaims, match=claims_name(ANN).hex()):
        KnownClaims(writer.store).packed(claims_name(ANN))


# ---- in a deployment --------------------------------------------------------------------

APP = {
    "notes.py": """
        from tidewell import mutation


        @mutation
        def write(ctx, text: str) -> str:
            who = ctx.auth.get_user_identity()
            name = "nobody" if who is None else who["name"]
            last = ctx.db.query("notes").order("desc").first()
            ctx.db.insert("notes", {"text": text, "by": name, "after": None if last is None else last["by"]})
            return name
        """
}


def somebody(name: str) -> Identity:
    return Identity({"issuer": "https://issuer.example", "name": name, "subject": f"user|{name}"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment in which Ann wrote through two sockets, Ben once, and then nobody in particular."""
    folder = tmp_path_factory.mktemp("notes")

    async def live() -> None:
        async with deployed(folder, APP) as it:
            for number, identity in enumerate(map(somebody, ("Ann", "Ann", "Ben"))):
                asked = call("notes:write", identity=identity, text=f"note {number}")
                outcome = await it.deployment.mutate(asked, idempotency=(f"session {number}", 0))
                assert outcome.failure is None
            await it.run("notes:write", text="the last")

    trio.run(live)
    return folder / "data"


def tidewell(line: str, data: Path) -> Result:
    result = CliRunner().invoke(main, [*shlex.split(line), "--data", str(data)])
    assert result.exit_code == 0, result.output
    return result


def test_sessions_with_the_same_claims_share_a_row_and_records_name_it(data: Path) -> None:
    with SharedStore.open(data / "store") as store:
        assert len(store.private_items(PREFIX)) == 2
        commits = list(History(store).after(0, Wanted(function="notes:write")))
        assert [each.identity and each.identity["name"] for each in commits] == ["Ann", "Ann", "Ben", None]
        for commit in commits[:3]:
            assert b"issuer.example" not in commit.entry.record
            assert unpack_record(commit.entry.record).identity == b"", "nobody looked it up"


def test_people_see_who_called(data: Path) -> None:
    listed = tidewell("log", data).stdout
    assert listed.count("socket Ann") == 2
    assert listed.count("socket Ben") == 1
    assert len(tidewell("log --identity user|Ann", data).stdout.splitlines()) < len(listed.splitlines())
    with SharedStore.open(data / "store") as store:
        [ben] = History(store).newest(Wanted(identity="Ben"))
    assert "https://issuer.example" in tidewell(f"show {ben.ts}", data).stdout


def test_calls_of_somebody_signed_in_are_replayed_from_a_backup(data: Path, tmp_path: Path) -> None:
    tidewell(f"backup {tmp_path / 'elsewhere'}", data)
    said = tidewell("replay --all", tmp_path / "elsewhere").stdout
    assert said.startswith("4 mutations replayed, all as recorded")


@pytest.mark.parametrize("options", ["", "--redact"])
def test_capsule_takes_the_claims_along(data: Path, tmp_path: Path, options: str) -> None:
    with SharedStore.open(data / "store") as store:
        [ben] = History(store).newest(Wanted(identity="Ben"))
    file = tmp_path / "ben.capsule"
    tidewell(f"capsule {ben.ts} -o {file} {options}", data)
    replayed = CliRunner().invoke(main, ["replay", str(file)])
    assert replayed.exit_code == 0, replayed.output


def test_fork_without_a_call_has_the_claims_of_the_others(data: Path, tmp_path: Path) -> None:
    with SharedStore.open(data / "store") as store:
        first = list(History(store).newest(Wanted(identity="Ann")))[-1]
    fork = tmp_path / "fork"
    tidewell(f"fork --without {first.ts} {fork}", data)
    with SharedStore.open(fork / "store") as store:
        names = [each.identity and each.identity["name"] for each in History(store).after(0, Wanted())]
        assert names[-3:] == ["Ann", "Ben", None]
    assert "all as recorded" in tidewell("replay --all", fork).stdout


async def test_attempt_that_fails_holds_its_claims_itself(tmp_path: Path) -> None:
    """Nothing keeps a row for it."""
    async with deployed(tmp_path, APP) as it:
        outcome = await it.deployment.mutate(call("notes:write", identity=somebody("Ann"), other="?"))
        assert outcome.failure is not None
        await it.deployment.attempts.flush()
        assert it.deployment.store.private_items(PREFIX) == []
    with SharedStore.open(tmp_path / "data" / "store") as store:
        [attempt] = History(store).failed(Wanted(identity="Ann"))
        assert attempt.record.function == "notes:write"


async def test_commit_after_a_refused_one_brings_the_row_that_was_refused(tmp_path: Path) -> None:
    disk = Disk()
    async with deployed(tmp_path, APP, run_blocking=disk) as it:
        disk.errors.append(DiskFull("no room"))
        with pytest.raises(BackendFault):
            await it.deployment.mutate(call("notes:write", identity=somebody("Ann"), text="lost"))
        await it.deployment.mutate(call("notes:write", identity=somebody("Ann"), text="kept"))
        entry = it.deployment.store.log_entry(it.deployment.head_ts)
        assert entry is not None
        record = unpack_record(entry.record, KnownClaims(it.deployment.store))
        assert record.identity == pack(dict(somebody("Ann").claims or {}))


async def test_row_stays_while_the_log_has_the_record_and_goes_with_it(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        await it.deployment.mutate(call("notes:write", identity=somebody("Ann"), text="hello"))
        store, keeping = it.deployment.store, it.deployment._housekeeping
        await keeping.forget_claims()
        assert len(store.private_items(PREFIX)) == 1
        # An hour and more later, in a log that somebody else goes on with.
        later = it.deployment.head_ts + 2 * HOUR_NS
    with Store.open(tmp_path / "data" / "store") as store:
        claims = KeptClaims(store)
        store.commit([Commit(later)])
        while not store.retain(RetentionPolicy(age_ns=0), now_ns=later, keep_from=later).is_done:
            pass
        store.commit([Commit(later + 1, private=tuple(claims.unneeded_rows(store.horizon)))])
        assert store.private_items(PREFIX) == []


VERSION_2 = (  # as it was written by then
    "dc001e02c410ababababababababababababababababc40000c408000000000000000000ab6e6f7465733a7772697465"
    "c420efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefc4083132333435363738c40180c4"
    "3283a6697373756572b668747470733a2f2f6973737565722e6578616d706c65a46e616d65a3416e6ea77375626a6563"
    "74a131a6736f636b657400c4200000000000000000000000000000000000000000000000000000000000000000cb3ff8"
    "000000000000070c1e80970000000000000091a86964656e74697479c41000000000000000000000000000000000c410"
    "00000000000000000000000000000000c4100000000000000000000000000000000090919702ab6e6f7465733a6f7468"
    "6572c40180c400c41000000000000000000000000000000000a00001c4053132333435a090"
)


def test_records_of_the_version_before_can_be_read() -> None:
    assert RECORD_VERSION == 3
    before = bytes.fromhex(VERSION_2)
    record = unpack_record(before)
    assert (record.function, record.identity) == ("notes:write", ANN)
    assert [each.path for each in record.nested] == ["notes:other"]
