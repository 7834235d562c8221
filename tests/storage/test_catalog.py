"""Tables and indexes: what a change may do, and that numbers are never used twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from storage import Catalog, CatalogChange, CatalogPlan, Commit, InvalidCatalogChange, Store
from storage import catalog_rows as module
from storage.layout import CATALOG_INDEXES, CATALOG_SCHEMA, CATALOG_TABLES, table_prefix

from .harness import check


def with_posts() -> Catalog:
    plan = Catalog().plan()
    plan.create_table("posts")
    plan.add_index("posts", "by_author", ("author",))
    return plan.catalog


def test_user_and_system_tables_are_numbered_apart() -> None:
    plan = Catalog().plan()
    assert [plan.create_table(name) for name in ("a", "b", "_storage", "c", "_jobs")] == [
        10001,
        10002,
        1,
        10003,
        2,
    ]


def test_numbers_of_what_is_gone_are_not_given_again() -> None:
    plan = with_posts().plan()
    old = plan.catalog.tables["posts"].indexes[0]
    plan.remove_index(old.index_id)
    assert plan.add_index("posts", "by_author", ("author",)).index_id != old.index_id
    plan.drop_table("posts")
    assert plan.create_table("posts") == 10002


def test_a_planned_change_applies_to_the_catalog_it_was_planned_on() -> None:
    plan = with_posts().plan()
    plan.create_table("users")
    index = plan.add_index("users", "by_email", ("profile.email",), unique=True)
    plan.enable_index(with_posts().tables["posts"].indexes[0].index_id)
    plan.set_schema("{}")
    change = CatalogChange.unpack(plan.change().pack())
    assert change == plan.change()
    after = with_posts().apply(change)
    assert after == Catalog.unpack(after.pack())
    assert after.tables["users"].index("by_email") == index
    assert after.tables["posts"].indexes[0].is_ready
    assert after.schema == "{}"
    assert change
    assert not CatalogChange()


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (lambda plan: plan.create_table("posts"), "exists already"),
        (lambda plan: plan.create_table("9"), "not a table name"),
        (lambda plan: plan.create_table("x" * 66), "not a table name"),
        (lambda plan: plan.create_table("users", 10001), "the number 10002, not 10001"),
        (lambda plan: plan.drop_table("users"), "no table 'users'"),
        (lambda plan: plan.add_index("users", "by_x", ("x",)), "no table 'users'"),
        (lambda plan: plan.add_index("posts", "by_author", ("x",)), "the name is taken"),
        (lambda plan: plan.add_index("posts", "by_writer", ("author",)), "same fields as 'by_author'"),
        (lambda plan: plan.add_index("posts", "by_id", ("x",)), "reserved"),
        (lambda plan: plan.add_index("posts", "_x", ("x",)), "reserved"),
        (lambda plan: plan.add_index("posts", "by_x", ()), "1 to 16 fields, found 0"),
        (lambda plan: plan.add_index("posts", "by_x", tuple("abcdefghijklmnopq")), "found 17"),
        (lambda plan: plan.add_index("posts", "by_x", ("x", "x")), "named twice"),
        (lambda plan: plan.add_index("posts", "by_x", ("_id",)), "not a field path"),
        (lambda plan: plan.add_index("posts", "by_x", ("a..b",)), "not a field path"),
        (lambda plan: plan.remove_index(1), "no table number"),
        (lambda plan: plan.remove_index(plan.catalog.tables["posts"].kept[0].index_id), "no index"),
        (lambda plan: plan.enable_index(plan.catalog.tables["posts"].indexes[0].index_id + 1), "no index"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_by_name(
    step: Callable[[CatalogPlan], object], complaint: str
) -> None:
    with pytest.raises(InvalidCatalogChange, match=complaint):
        step(with_posts().plan())


def test_sixteen_fields_are_possible() -> None:
    assert len(with_posts().plan().add_index("posts", "wide", tuple("abcdefghijklmnop")).fields) == 16


def test_a_change_writes_the_keys_that_readers_record() -> None:
    before = with_posts()
    number = before.tables["posts"].number
    plan = before.plan()
    plan.create_table("users")
    plan.remove_index(before.tables["posts"].indexes[0].index_id)
    plan.set_schema("s")
    assert set(plan.change().keys(before)) == {
        (CATALOG_TABLES, b"users"),
        (CATALOG_INDEXES, table_prefix(number)),
        (CATALOG_SCHEMA, b""),
    }
    drop = before.plan()
    drop.drop_table("posts")
    assert set(drop.change().keys(before)) == {
        (CATALOG_TABLES, b"posts"),
        (CATALOG_INDEXES, table_prefix(number)),
    }


def test_many_tables_one_by_one_stay_cheap_to_write_and_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "store") as store:
        for number in range(200):
            plan = store.catalog().plan()
            plan.create_table(f"table{number}")
            store.commit([Commit(number + 1, catalog=plan.change())])
        with store._environment.view() as view, view.cursor(view.dbs.catalog) as cursor:
            whole = [row[:1] for _, row in cursor.iternext()].count(b"W")
        assert whole == -(-200 // (module.CHANGES_MAX + 1))
        for ts in (1, 64, 65, 66, 130, 200):
            with store.snapshot(ts) as snapshot:
                assert set(snapshot.catalog.tables) == {f"table{number}" for number in range(ts)}
        check(store)
    with Store.open(tmp_path / "store") as store:
        assert len(store.catalog().tables) == 200


def test_an_index_is_filled_beside_the_one_whose_place_it_takes() -> None:
    plan = with_posts().plan()
    old = plan.catalog.tables["posts"].indexes[0]
    plan.enable_index(old.index_id)
    new = plan.add_index("posts", old.name, ("author", "title"))
    assert plan.catalog.tables["posts"].index(old.name) == attrs.evolve(old, state="ready")
    with pytest.raises(InvalidCatalogChange, match="the name is taken"):
        plan.enable_index(new.index_id)
    plan.remove_index(old.index_id)
    plan.enable_index(new.index_id)
    assert plan.catalog.tables["posts"].index(old.name) == attrs.evolve(new, state="ready")
