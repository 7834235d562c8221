"""Invariant: every index holds what its table holds, whatever functions run; the checkers see to the rest.

The app is drawn by Hypothesis, another one for each seed: a schema with a few tables and
indexes, mutations that read ranges and write what follows from them, queries over
the same. Fields hold numbers below `MODULUS`, so that everybody is in everybody's way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import attrs
import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from engine.testing.repeatable import drawn_from_the_seed_alone
from fuzz.client import SimulatedClient
from fuzz.history import Request
from fuzz.workloads.base import End, Workload

MODULUS: Final = 4
ROWS_MAX: Final = 12  # of a table; inserts look first
EXAMPLES: Final = 4  # drawn for a seed; the longest is taken, since Hypothesis begins with the simplest

Draw = Callable[[st.SearchStrategy[Any]], Any]
NUMBERS: Final = st.integers(0, MODULUS - 1)


@attrs.frozen
class Table:
    name: str
    fields: Sequence[str]
    indexes: Sequence[Sequence[str]]  # the fields of each

    def source(self) -> str:
        fields = ", ".join(f"{field}=int" for field in self.fields)
        indexes = "".join(
            f".index({index_name(index)!r}, {', '.join(map(repr, index))})" for index in self.indexes
        )
        return f"{self.name}=table({fields}){indexes}"


def index_name(fields: Sequence[str]) -> str:
    return "by_" + "_".join(fields)


@attrs.frozen
class Program:
    """An app: its source, and what of it can be called."""

    tables: Sequence[Table]
    mutations: Sequence[str]
    queries: Sequence[str]
    source: str

    @property
    def schema(self) -> str:
        tables = ",\n    ".join(["ledger=table(by=str)", *(table.source() for table in self.tables)])
        return f"from tidewell import Schema, table\n\nschema = Schema(\n    {tables},\n)\n"


@attrs.frozen
class _Writer:
    """Writes the bodies of functions over some tables."""

    draw: Draw
    tables: Sequence[Table]

    def expression(self) -> str:
        return str(self.draw(st.sampled_from(["a", "b", "n", "(n + 1)", "(a + b)"]) | NUMBERS.map(str)))

    def number(self) -> str:
        return f"{self.expression()} % {MODULUS}"

    def rows(self, table: Table) -> str:
        """Return a query over a range of an index, or over the whole table."""
        index = self.draw(st.none() | st.sampled_from(list(table.indexes))) if table.indexes else None
        if index is None:
            return f'ctx.db.query("{table.name}")'
        equal = self.draw(st.integers(0, len(index)))
        bounds = "".join(f'.eq("{field}", {self.number()})' for field in index[:equal])
        if equal < len(index) and self.draw(st.booleans()):
            bounds += f'.{self.draw(st.sampled_from(["gt", "gte"]))}("{index[equal]}", {self.number()})'
            if self.draw(st.booleans()):
                bounds += f'.{self.draw(st.sampled_from(["lt", "lte"]))}("{index[equal]}", {self.number()})'
        chosen = f", lambda q: q{bounds}" if bounds else ""
        order = self.draw(st.sampled_from(["", '.order("desc")']))
        return f'ctx.db.query("{table.name}").with_index("{index_name(index)}"{chosen}){order}'

    def reading(self) -> list[str]:
        table = self.draw(st.sampled_from(list(self.tables)))
        rows, field = self.rows(table), self.draw(st.sampled_from(list(table.fields)))
        match self.draw(st.integers(0, 3)):
            case 0:
                return [f"n = (n + {rows}.count()) % {MODULUS}"]
            case 1:
                return [
                    f"row = {rows}.first()",
                    "if row is not None:",
                    f'    n = (n + row["{field}"]) % {MODULUS}',
                ]
            case 2:
                limit = self.draw(st.integers(1, 3))
                return [f'n = (n + sum(row["{field}"] for row in {rows}.take({limit}))) % {MODULUS}']
        return [f'found = [row["{field}"] for row in {rows}.collect()]', f"n = (n + len(found)) % {MODULUS}"]

    def writing(self) -> list[str]:
        table = self.draw(st.sampled_from(list(self.tables)))
        field = self.draw(st.sampled_from(list(table.fields)))
        change = f'{{"{field}": {self.number()}}}'
        match self.draw(st.integers(0, 4)):
            case 0 | 1:
                body = ", ".join(f'"{name}": {self.number()}' for name in table.fields)
                room = f'if ctx.db.query("{table.name}").count() < {ROWS_MAX}:'
                return [room, f'    ctx.db.insert("{table.name}", {{{body}}})']
            case 2:
                return [
                    f"row = {self.rows(table)}.first()",
                    "if row is not None:",
                    f'    ctx.db.patch(row["_id"], {change})',
                ]
            case 3:
                return [
                    f"row = {self.rows(table)}.first()",
                    "if row is not None:",
                    '    ctx.db.delete(row["_id"])',
                ]
        return [f"for row in {self.rows(table)}.take(3):", f'    ctx.db.patch(row["_id"], {change})']

    def statement(self, callable_: Sequence[str]) -> list[str]:
        """Return a statement of a mutation, which may call those before it."""
        match self.draw(st.integers(0, 9)):
            case 0 | 1 | 2:
                return self.reading()
            case 3:
                return [f"n = (n + ctx.random.randrange({MODULUS})) % {MODULUS}"]
            case 4:
                return [f"if n == {self.draw(NUMBERS)}:", '    raise AppError({"n": n})']
            case 5 if callable_:
                path = self.draw(st.sampled_from(list(callable_)))
                call = f'ctx.run_mutation("drawn:{path}", {{"a": {self.number()}, "b": {self.number()}}})'
                return ["try:", f"    n = (n + {call}[1]) % {MODULUS}", "except AppError:", "    n = 0"]
            case 6:
                inner = self.writing()
                return [f"if n < {self.draw(NUMBERS)}:", *(f"    {line}" for line in inner)]
        return self.writing()


@st.composite
def programs(draw: Draw) -> Program:
    tables = [_table(draw, number) for number in range(draw(st.integers(1, 3)))]
    writer = _Writer(draw, tables)
    parts = ["from tidewell import AppError, mutation, query\n"]
    mutations: list[str] = []
    for number in range(draw(st.integers(2, 5))):
        lines = [line for _ in range(draw(st.integers(1, 4))) for line in writer.statement(mutations)]
        is_noted = draw(st.booleans())
        if is_noted:
            lines.append(f'ctx.db.insert("ledger", {{"by": "change{number}"}})')
        parts.append(_function("mutation", f"change{number}", lines, f"[{is_noted}, n]"))
        mutations.append(f"change{number}")
    queries = [f"look{number}" for number in range(draw(st.integers(1, 3)))]
    for name in queries:
        lines = [line for _ in range(draw(st.integers(1, 3))) for line in writer.reading()]
        parts.append(_function("query", name, lines, "[n]"))
    parts.append(_sizes(tables))
    return Program(tables, mutations, queries, "\n".join(parts))


def _table(draw: Draw, number: int) -> Table:
    fields = [f"f{field}" for field in range(draw(st.integers(1, 3)))]
    orders = st.permutations(fields).flatmap(
        lambda order: st.integers(1, len(order)).map(lambda count: tuple(order[:count]))
    )
    return Table(f"t{number}", fields, draw(st.lists(orders, max_size=2, unique=True)))


def _function(kind: str, name: str, lines: Sequence[str], result: str) -> str:
    body = "\n".join(f"    {line}" for line in ["n = (a + b) % 4", *lines, f"return {result}"])
    return f"@{kind}\ndef {name}(ctx, a: int, b: int) -> list:\n{body}\n"


def _sizes(tables: Sequence[Table]) -> str:
    """Return a query that gives, for each table, how many rows there are by each of its indexes."""
    sizes = []
    for table in tables:
        whole = f'ctx.db.query("{table.name}")'
        ways = [f'len({whole}.with_index("{index_name(index)}").collect())' for index in table.indexes]
        sizes.append(f"[{', '.join([f'{whole}.count()', f'len({whole}.collect())', *ways])}]")
    return f"@query\ndef sizes(ctx) -> list:\n    return [{', '.join(sizes)}]\n"


@functools.cache
def program_of(seed: int) -> Program:
    """Return the app of a seed, the same one in every process."""
    drawn: list[Program] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(programs())
    def collect(program: Program) -> None:
        drawn.append(program)

    with drawn_from_the_seed_alone():
        collect()
    return max(drawn, key=lambda program: len(program.source))


# ---- the workload of a program -----------------------------------------------------------


def workload_of(seed: int) -> Workload:
    program = program_of(seed)

    async def set_up(client: SimulatedClient) -> None:
        for name in program.mutations:
            for number in range(MODULUS):
                await client.mutate(f"drawn:{name}", a=number, b=number)

    async def step(client: SimulatedClient, random: Random) -> None:
        path = f"drawn:{random.choice(program.mutations)}"
        await client.mutate(path, a=random.randrange(MODULUS), b=random.randrange(MODULUS))

    def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
        a, b = random.randrange(MODULUS), random.randrange(MODULUS)
        looks = [(f"drawn:{name}", {"a": a, "b": b}) for name in program.queries]
        return [("drawn:sizes", {}), *looks]

    return Workload(
        "drawn",
        {"drawn.py": program.source, "schema.py": program.schema},
        set_up,
        step,
        check,
        watched,
        writes=_has_noted,
        may_fail=_raised_on_purpose,
    )


def check(end: End) -> list[str]:
    results = [end.query("drawn:sizes")]
    for shown in end.history.shown:
        results += [value for query, value in shown.results.items() if query.path == "drawn:sizes"]
    return [
        f"a table has {sizes} rows by its indexes" for of in results for sizes in of if len(set(sizes)) > 1
    ]


def _has_noted(request: Request) -> bool:
    return request.value is not None and request.value[0] is True


def _raised_on_purpose(request: Request) -> bool:
    return "ConvexError" in request.error and '"n"' in request.error
