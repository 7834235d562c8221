"""The bank on the real engine. Run with `pytest examples/bank`."""

import random
from pathlib import Path

import pytest
import trio
from tidewell.testing import AppError, BackendFault, Faults, FunctionError, TestServer, run, server_fixture

FUNCTIONS = Path(__file__).parent.parent / "functions"
server = server_fixture(FUNCTIONS)


@pytest.fixture
def ada(server):
    account = server.mutation("accounts:open", {"owner": "ada"})
    server.mutation("accounts:deposit", {"account": account, "amount": 100})
    return account


@pytest.fixture
def bob(server):
    return server.mutation("accounts:open", {"owner": "bob"})


def balances(server):
    return server.read(lambda db: {row["owner"]: row["balance"] for row in db.query("accounts")})


def is_sound(db):
    """The invariant: no balance is below zero, each is the sum of its entries, transfers make no money."""
    sums, transferred = {}, 0
    for entry in db.query("entries"):
        sums[entry["account"]] = sums.get(entry["account"], 0) + entry["amount"]
        transferred += entry["amount"] if entry["kind"] == "transfer" else 0
    accounts = db.query("accounts").collect()
    return transferred == 0 and all(
        row["balance"] == sums.get(row["_id"], 0) and row["balance"] >= 0 for row in accounts
    )


def test_a_transfer_moves_money(server, ada, bob):
    server.mutation("accounts:transfer", {"source": ada, "target": bob, "amount": 30})
    assert balances(server) == {"ada": 70, "bob": 30}
    assert server.read(is_sound)


def test_a_transfer_of_more_than_there_is_changes_nothing(server, ada, bob):
    with pytest.raises(AppError) as refused:
        server.mutation("accounts:transfer", {"source": ada, "target": bob, "amount": 101})
    assert refused.value.data["code"] == "TOO_LITTLE"
    assert refused.value.data["short"] == 1
    assert balances(server) == {"ada": 100, "bob": 0}


def test_a_transfer_to_an_account_that_is_gone_takes_nothing(server, ada, bob):
    operator_took = server.mutation("accounts:open", {"owner": "cyd"})
    server.push(
        {
            **{path.name: path.read_text() for path in FUNCTIONS.glob("*.py")},
            "office.py": "from tidewell import internal_mutation\n\n\n@internal_mutation\n"
            "def close(ctx, account: str):\n    ctx.db.delete(account)\n",
        }
    )
    server.as_admin().mutation("office:close", {"account": operator_took})
    with pytest.raises(AppError) as refused:
        server.mutation("accounts:transfer", {"source": ada, "target": operator_took, "amount": 1})
    assert refused.value.data["code"] == "NO_ACCOUNT"
    assert balances(server) == {"ada": 100, "bob": 0}


@pytest.mark.parametrize("amount", [0, -5])
def test_an_amount_is_positive(server, ada, bob, amount):
    for path, accounts in (
        ("accounts:deposit", {"account": ada}),
        ("accounts:withdraw", {"account": ada}),
        ("accounts:transfer", {"source": ada, "target": bob}),
    ):
        with pytest.raises(AppError) as refused:
            server.mutation(path, {**accounts, "amount": amount})
        assert refused.value.data["code"] == "BAD_AMOUNT"


def test_half_a_cent_is_no_amount(server, ada):
    with pytest.raises(FunctionError, match=r"args\.amount"):
        server.mutation("accounts:deposit", {"account": ada, "amount": 0.5})


def test_a_statement_is_in_the_order_of_commits(server, ada, bob):
    server.mutation("accounts:withdraw", {"account": ada, "amount": 10})
    server.mutation("accounts:transfer", {"source": ada, "target": bob, "amount": 20})
    entries = server.query("accounts:statement", {"account": ada})
    assert [(entry["kind"], entry["amount"]) for entry in entries] == [
        ("transfer", -20),
        ("withdrawal", -10),
        ("deposit", 100),
    ]
    assert sorted(entry["at"] for entry in entries) == [entry["at"] for entry in reversed(entries)]


def test_who_watches_a_balance_sees_it_change(server, ada, bob):
    with server.subscribe("accounts:balance", {"account": bob}) as balance:
        assert next(balance) == 0
        server.mutation("accounts:transfer", {"source": ada, "target": bob, "amount": 1})
        assert next(balance) == 1


async def a_day(seed):
    """Let many people move money at once, on a bad day for the machine."""
    chance = random.Random(seed)
    faults = Faults(worker_delay_s=0.05, worker_death=0.05, commit_refused=0.05)
    async with TestServer(FUNCTIONS, seed=seed, faults=faults) as server:

        async def call(path, args):
            try:
                return await server.mutation(path, args)
            except (AppError, BackendFault, FunctionError):
                return None

        opened = [await call("accounts:open", {"owner": str(number)}) for number in range(5)]
        accounts = [account for account in opened if account is not None]
        for account in accounts:
            await call("accounts:deposit", {"account": account, "amount": 100})
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                source, target = chance.sample(accounts, 2)
                args = {"source": source, "target": target, "amount": chance.randint(1, 80)}
                nursery.start_soon(call, "accounts:transfer", args)
        assert server.read(is_sound), f"seed {seed}"
        return server.read(lambda db: [row["balance"] for row in db.query("accounts")])


@pytest.mark.parametrize("seed", range(3))
def test_the_invariant_holds_when_everybody_moves_money_at_once(seed):
    assert run(a_day, seed, seed=seed)
