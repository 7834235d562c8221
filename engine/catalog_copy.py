"""Making a catalog out of nothing, under the numbers that it has.

Forks and opened capsules are new stores in which ids, index numbers and later commits of the
original have to mean the same. Numbers are given in sequence, and what was removed from the
original meanwhile leaves gaps in it. So there are two changes: the first makes everything, with
placeholders in the gaps, and the second removes these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from storage import Catalog, CatalogChange, CatalogPlan, IndexInfo, StoreError, TableInfo
from storage.layout import INDEX_NUMBER_FIRST, index_id_of
from tidewell.ids import USER_TABLE_FIRST

PLACEHOLDERS_MAX: Final = 100_000  # of one table; a capsule may say anything


def copy_catalog(
    catalog: Catalog, is_kept: Callable[[IndexInfo], bool] = lambda index: True
) -> tuple[CatalogChange, CatalogChange]:
    """Return the two changes that make `catalog` in an empty store.

    Args:
      is_kept: whether an index is made; one that is not counts as removed.

    Raises:
      StoreError: it is not the catalog of any store.
    """
    making = Catalog().plan()
    unwanted: list[int] = []
    for table in sorted(catalog.tables.values(), key=lambda table: table.number):
        making.create_table(table.name, table.number)
        unwanted += _add_indexes(making, table, is_kept)
    dropped = list(_use_up_numbers(making, catalog))
    making.set_schema(catalog.schema)
    removing = making.catalog.plan()
    for index_id in unwanted:
        removing.remove_index(index_id)
    for name in dropped:
        removing.drop_table(name)
    return making.change(), removing.change()


def _add_indexes(plan: CatalogPlan, table: TableInfo, is_kept: Callable[[IndexInfo], bool]) -> list[int]:
    """Add the indexes of a table under their numbers; return the placeholders among them."""
    kept = {index.index_id: index for index in table.indexes if is_kept(index)}
    if table.indexes_made - len(kept) > PLACEHOLDERS_MAX:
        raise StoreError(f"the table {table.name!r} is said to have had {table.indexes_made:,} indexes")
    taken = {name for index in table.indexes for name in (index.name, *index.fields)}
    unwanted = []
    for number in range(table.indexes_made):
        index = kept.get(index_id_of(table.number, INDEX_NUMBER_FIRST + number))
        if index is not None:
            plan.add(index)
        else:
            name = _free_name(f"placeholder_{number}", taken)
            unwanted.append(plan.add_index(table.name, name, (name,), state="ready").index_id)
    return unwanted


def _use_up_numbers(plan: CatalogPlan, catalog: Catalog) -> Iterator[str]:
    """Make the next new table get the number it would get in the original; yield what is to be dropped."""
    for prefix, wanted, so_far in (
        ("_", catalog.system_tables_made, plan.catalog.system_tables_made),
        ("", catalog.user_tables_made, plan.catalog.user_tables_made),
    ):
        if wanted > so_far:
            number = wanted if prefix else USER_TABLE_FIRST + wanted - 1
            name = _free_name(f"{prefix}placeholder_{number}", set(catalog.tables))
            plan.create_table(name, number)
            yield name


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "x"
    return name
