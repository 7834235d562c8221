"""Accounts, and money that moves between them: none is made on the way and none is lost.

A mutation is serializable: it may look at a balance, decide, and write, as if it were
alone. Whatever happens at the same time, nobody spends the same money twice.
"""

from tidewell import AppError, Id, mutation, query

ENTRIES_MOST = 100


@mutation
def open(ctx, owner: str) -> Id["accounts"]:
    if not owner.strip():
        refuse("NO_OWNER", "An account belongs to somebody.")
    return ctx.db.insert("accounts", {"owner": owner.strip(), "balance": 0})


@query
def balance(ctx, account: Id["accounts"]) -> int:
    return existing(ctx, account)["balance"]


@query
def of_owner(ctx, owner: str) -> list[dict]:
    return ctx.db.query("accounts").with_index("by_owner", lambda q: q.eq("owner", owner)).collect()


@query
def statement(ctx, account: Id["accounts"], limit: int = 20) -> list[dict]:
    """Return the newest entries of an account first, in the order in which they were committed."""
    entries = ctx.db.query("entries").with_index("by_account", lambda q: q.eq("account", account))
    return entries.order("desc").take(min(limit, ENTRIES_MOST))


@mutation
def deposit(ctx, account: Id["accounts"], amount: int) -> int:
    return book(ctx, account, positive(amount), "deposit")


@mutation
def withdraw(ctx, account: Id["accounts"], amount: int) -> int:
    return book(ctx, account, -positive(amount), "withdrawal")


@mutation
def transfer(ctx, source: Id["accounts"], target: Id["accounts"], amount: int) -> None:
    positive(amount)
    if source == target:
        refuse("SAME_ACCOUNT", "Choose another account to send to.")
    book(ctx, source, -amount, "transfer", target)
    book(ctx, target, amount, "transfer", source)  # if this fails, the line above never happened


def book(ctx, account, amount, kind, other=None):
    """Change a balance and keep an entry of it; return the new balance."""
    balance = existing(ctx, account)["balance"] + amount
    if balance < 0:
        raise AppError(
            {"code": "TOO_LITTLE", "message": "There is not enough in the account.", "short": -balance}
        )
    ctx.db.patch(account, {"balance": balance})
    entry = {"account": account, "amount": amount, "kind": kind, "other": other, "at": ctx.db.vars.commit_ts}
    ctx.db.insert("entries", entry)
    return balance


def existing(ctx, account):
    found = ctx.db.get(account)
    if found is None:
        refuse("NO_ACCOUNT", "There is no such account.")
    return found


def positive(amount):
    if amount <= 0:
        refuse("BAD_AMOUNT", "An amount is at least one cent.")
    return amount


def refuse(code, message):
    raise AppError({"code": code, "message": message})
