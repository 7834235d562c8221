"""From the timestamp of a commit to everything that its call needs to be run again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.attempts import read_attempts
from engine.replay.recorded import CodeVersions, NoRecord, read_attempt, read_recorded
from storage import RetentionPolicy, Store

from ..deployed import deployed

APP = {
    "counter.py": """
        from tidewell import mutation


        @mutation
        def add(ctx, by: int) -> int:
            if by < 0:
                raise ValueError("down is not a way")
            ctx.db.insert("counters", {"n": by})
            return by
        """
}


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A deployment that has run one mutation under each of two versions, and is closed."""
    async with deployed(tmp_path, APP) as it:
        await it.run("counter:add", by=1)
        await it.push({"counter.py": APP["counter.py"].replace("by < 0", "by <= 0")})
        await it.run("counter:add", by=2)
        await it.mutate("counter:add", by=0)
        await it.deployment.attempts.flush()
        frames = [frame.calls[0] for frame in it.traffic.frames]
        (tmp_path / "frames").write_bytes(msgspec.msgpack.encode(frames))
        return tmp_path


async def test_recorded_call_is_the_one_that_the_worker_got(folder: Path) -> None:
    frames = msgspec.msgpack.decode((folder / "frames").read_bytes())
    with Store.open(folder / "data" / "store") as store:
        entries = [entry for entry in store.log(0) if entry.record]
        for entry, frame in zip(entries, frames, strict=False):
            recorded = read_recorded(store, entry.ts)
            call = msgspec.to_builtins(recorded.call, builtin_types=(bytes,))
            # The limits are spelled out, so that a later default does not change a replay.
            assert {**call, "fuel": 0, "limits": {}} == frame
            assert recorded.begin_ts == entry.previous_ts
            assert recorded.record.code == recorded.code.hash


async def test_each_record_comes_with_the_code_it_ran(folder: Path) -> None:
    with Store.open(folder / "data" / "store") as store:
        versions = CodeVersions(store)
        first, second = (read_recorded(store, e.ts, versions) for e in store.log(0) if e.record)
        assert b"by < 0" in first.code.modules[0].source
        assert b"by <= 0" in second.code.modules[0].source
        assert versions.code(first.code.hash) is first.code


async def test_attempt_that_failed_can_be_run_again_too(folder: Path) -> None:
    with Store.open(folder / "data" / "store") as store:
        [attempt] = read_attempts(store)
        recorded = read_attempt(store, attempt)
        assert recorded.call.path == "counter:add"
        assert b"by <= 0" in recorded.code.modules[0].source
        assert recorded.begin_ts <= store.head_ts


async def test_what_cannot_be_run_again_says_why(folder: Path) -> None:
    with Store.open(folder / "data" / "store") as store:
        entries = list(store.log(0))
        push = next(entry for entry in entries if not entry.record)
        with pytest.raises(NoRecord, match="no call"):
            read_recorded(store, push.ts)
        with pytest.raises(NoRecord, match="`tidewell log`"):
            read_recorded(store, store.head_ts + 1)
        while not store.retain(RetentionPolicy(age_ns=0), now_ns=store.head_ts).is_done:
            pass
        with pytest.raises(NoRecord, match="history begins"):
            read_recorded(store, entries[0].ts)
