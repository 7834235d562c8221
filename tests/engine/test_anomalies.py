"""One test per textbook anomaly, on the real engine with workers in processes of their own.

In each, one transaction has run and its reply is held while others commit what it
has read; then it is let go. It must come out as if it had run after them (T1).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from .deployed import Deployed, deployed

BANK = {
    "schema.py": """
        from tidewell import Schema, table

        schema = Schema(
            accounts=table(name=str, balance=int).index("by_name", "name"),
            shifts=table(doctor=str, on_call=bool).index("by_on_call", "on_call"),
        )
        """,
    "bank.py": """
        from tidewell import mutation, query


        def find(ctx, name):
            return ctx.db.query("accounts").with_index("by_name", lambda q: q.eq("name", name)).unique()


        @mutation
        def open_account(ctx, name: str, balance: int) -> None:
            ctx.db.insert("accounts", {"name": name, "balance": balance})


        @mutation
        def add(ctx, name: str, amount: int) -> int:
            account = find(ctx, name)
            ctx.db.patch(account["_id"], {"balance": account["balance"] + amount})
            return account["balance"] + amount


        @mutation
        def add_slowly(ctx, name: str, amount: int) -> int:
            return add_to(ctx, name, amount)


        def add_to(ctx, name, amount):
            account = find(ctx, name)
            ctx.db.patch(account["_id"], {"balance": account["balance"] + amount})
            return account["balance"] + amount


        @mutation
        def withdraw_if_covered(ctx, source: str, other: str, amount: int) -> bool:
            if find(ctx, source)["balance"] + find(ctx, other)["balance"] < amount:
                return False
            add_to(ctx, source, -amount)
            return True


        @mutation
        def fail_after_adding(ctx, name: str, amount: int) -> None:
            add_to(ctx, name, amount)
            raise ValueError("changed my mind")


        @mutation
        def open_if_few(ctx, name: str, most: int) -> bool:
            if len(ctx.db.query("accounts").collect()) >= most:
                return False
            ctx.db.insert("accounts", {"name": name, "balance": 0})
            return True


        @mutation
        def charge_if_overdrawn(ctx, name: str, other: str) -> int:
            total = find(ctx, name)["balance"] + find(ctx, other)["balance"]
            if total < 0:
                add_to(ctx, name, -1)
            return total


        @mutation
        def look(ctx, names: list[str]) -> list[int]:
            return [find(ctx, name)["balance"] for name in names]


        @query
        def balance(ctx, name: str) -> int:
            return find(ctx, name)["balance"]


        @query
        def balances(ctx) -> dict[str, int]:
            return {account["name"]: account["balance"] for account in ctx.db.query("accounts").collect()}


        @query
        def names(ctx) -> list[str]:
            return [account["name"] for account in ctx.db.query("accounts").collect()]
        """,
}


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, BANK, real=True) as it:
        await it.run("bank:open_account", name="a", balance=0)
        await it.run("bank:open_account", name="b", balance=0)
        yield it


async def test_anomaly_lost_update(bank: Deployed) -> None:
    results: list[int] = []

    async def add_slowly() -> None:
        results.append(await bank.run("bank:add_slowly", name="a", amount=1))

    held = bank.traffic.hold_after("bank:add_slowly")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(add_slowly)
        await held.arrivals()
        assert await bank.run("bank:add", name="a", amount=10) == 10
        held.release.set()
    assert results == [11]
    assert await bank.value("bank:balance", name="a") == 11
    assert bank.deployment.mutations.conflicts == 1


async def test_anomaly_lost_update_with_many_clients(bank: Deployed) -> None:
    async def add_often() -> None:
        for _ in range(10):
            await bank.run("bank:add", name="a", amount=1)

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(add_often)
    assert await bank.value("bank:balance", name="a") == 160


async def test_anomaly_write_skew(bank: Deployed) -> None:
    """Each of two withdrawals is covered by both accounts together, and both are not."""
    await bank.run("bank:add", name="a", amount=50)
    await bank.run("bank:add", name="b", amount=50)
    results: dict[str, bool] = {}

    async def withdraw(source: str, other: str) -> None:
        results[source] = await bank.run("bank:withdraw_if_covered", source=source, other=other, amount=80)

    held = bank.traffic.hold_after("bank:withdraw_if_covered")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(withdraw, "a", "b")
        nursery.start_soon(withdraw, "b", "a")
        await held.arrivals(2)
        held.release.set()
    assert sorted(results.values()) == [False, True]
    assert sum((await bank.value("bank:balances")).values()) == 20


async def test_anomaly_phantom(bank: Deployed) -> None:
    """Two see a table with room for one more row, and only one may add it."""
    results: list[bool] = []

    async def open_account(name: str) -> None:
        results.append(await bank.run("bank:open_if_few", name=name, most=3))

    held = bank.traffic.hold_after("bank:open_if_few")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_account, "c")
        nursery.start_soon(open_account, "d")
        await held.arrivals(2)
        held.release.set()
    assert sorted(results) == [False, True]
    assert len(await bank.value("bank:names")) == 3


async def test_anomaly_read_only_transaction(bank: Deployed) -> None:
    """Fekete's: a withdrawal charges a fee because it does not see a deposit that a reader saw before it.

    Were the held charge let through, the reader's report (deposit in, no charge) would fit no order.
    """
    await bank.run("bank:add", name="a", amount=-5)
    charged: list[int] = []

    async def charge() -> None:
        charged.append(await bank.run("bank:charge_if_overdrawn", name="a", other="b"))

    held = bank.traffic.hold_after("bank:charge_if_overdrawn")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(charge)
        await held.arrivals()
        await bank.run("bank:add", name="b", amount=20)
        assert await bank.value("bank:balances") == {"a": -5, "b": 20}
        held.release.set()
    assert charged == [15]
    assert await bank.value("bank:balances") == {"a": -5, "b": 20}


async def test_anomaly_dirty_read(bank: Deployed) -> None:
    """Nobody sees the writes of a mutation that failed, or that has not committed."""
    held = bank.traffic.hold_after("bank:add_slowly")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: bank.run("bank:add_slowly", name="a", amount=1))
        await held.arrivals()
        assert await bank.value("bank:balance", name="a") == 0
        assert await bank.run("bank:look", names=["a", "b"]) == [0, 0]
        held.release.set()
    failed = await bank.mutate("bank:fail_after_adding", name="a", amount=100)
    assert failed.failure is not None
    assert await bank.value("bank:balance", name="a") == 1


async def test_anomaly_dirty_read_in_a_batch(bank: Deployed) -> None:
    """A call behind one that failed in the same message sees nothing of it."""
    for path in ("bank:add", "bank:fail_after_adding"):  # known to be quick from now on
        await bank.mutate(path, name="b", amount=0)
    held = bank.traffic.hold_before("bank:add")
    seen: list[int] = []

    async def add() -> None:
        seen.append(await bank.run("bank:add", name="a", amount=1))

    async def fail() -> None:
        await bank.mutate("bank:fail_after_adding", name="a", amount=100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add)
        await held.arrivals()
        for _ in range(5):
            nursery.start_soon(fail)
            nursery.start_soon(add)
        await trio.testing.wait_all_tasks_blocked()
        held.release.set()
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]
