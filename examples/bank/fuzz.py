"""What must hold in a bank, whatever happens at the same time. `tidewell fuzz examples/bank/functions`"""

from hypothesis import strategies as st
from tidewell.testing import invariant, setup, step


@setup
def three_accounts(server):
    for owner in ("ada", "bob", "cyd"):
        account = server.mutation("accounts:open", {"owner": owner})
        server.mutation("accounts:deposit", {"account": account, "amount": 100})


@invariant
def no_balance_is_negative(db):
    assert all(account["balance"] >= 0 for account in db.query("accounts"))


@invariant
def a_balance_is_the_sum_of_its_entries(db):
    for account in db.query("accounts"):
        entries = db.query("entries").with_index(
            "by_account", lambda q, account=account: q.eq("account", account["_id"])
        )
        assert account["balance"] == sum(entry["amount"] for entry in entries)


@invariant
def transfers_make_no_money_and_lose_none(db):
    assert sum(entry["amount"] for entry in db.query("entries") if entry["kind"] == "transfer") == 0


step("accounts:transfer", {"amount": st.integers(1, 150)})
step("accounts:withdraw", {"amount": st.integers(1, 150)})
