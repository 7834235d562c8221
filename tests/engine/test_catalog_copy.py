"""A catalog made anew: the same tables and indexes under the same numbers, now and for what comes next."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from engine.catalog_copy import PLACEHOLDERS_MAX, copy_catalog
from storage import Catalog, Commit, Store, StoreError


def made(folder: Path, catalog: Catalog, *, all_indexes: bool = True) -> Catalog:
    """Return the catalog of a new store after both changes."""
    changes = copy_catalog(catalog, (lambda index: True) if all_indexes else (lambda index: index.is_ready))
    with Store.open(folder, sync=False) as store:
        store.commit([Commit(ts, catalog=change) for ts, change in enumerate(changes, 1)])
        return store.catalog()


def lived() -> Catalog:
    """A catalog with gaps: of tables at the end and in between, and of indexes."""
    plan = Catalog().plan()
    plan.create_table("_files")
    for name in ("a", "gone", "b", "placeholder_10004", "last"):
        plan.create_table(name)
    old = plan.add_index("b", "by_old", ("old",), state="ready")
    plan.add_index("b", "by_x", ("x", "placeholder_0"), unique=True, state="ready")
    plan.add_index("b", "by_y", ("y",))
    plan.remove_index(old.index_id)
    plan.drop_table("gone")
    plan.drop_table("last")
    plan.create_table("_gone")
    plan.drop_table("_gone")
    plan.set_schema("schema")
    return plan.catalog


def test_copy_is_the_same_to_the_number(tmp_path: Path) -> None:
    assert made(tmp_path / "copy", lived()) == lived()


def test_next_table_and_index_get_the_numbers_they_would_have_got(tmp_path: Path) -> None:
    plans = [catalog.plan() for catalog in (lived(), made(tmp_path / "copy", lived(), all_indexes=False))]
    for plan in plans:
        plan.create_table("next")
        plan.create_table("_next")
        plan.add_index("b", "by_next", ("next",))
    one, other = (plan.change() for plan in plans)
    assert one == other


def test_index_that_is_not_kept_is_gone_and_its_number_with_it(tmp_path: Path) -> None:
    table = made(tmp_path / "copy", lived(), all_indexes=False).tables["b"]
    assert [index.name for index in table.indexes] == ["by_x"]
    assert table.indexes_made == 3


def test_catalog_of_no_store_is_refused() -> None:
    catalog = lived()
    table = attrs.evolve(catalog.tables["b"], indexes_made=PLACEHOLDERS_MAX + 5)
    with pytest.raises(StoreError, match="100,005 indexes"):
        copy_catalog(attrs.evolve(catalog, tables={**catalog.tables, "b": table}))
