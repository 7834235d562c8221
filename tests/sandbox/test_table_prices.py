"""What keys, tables and comparisons cost in steps: at least in proportion to what C does for them.

As in `test_prices`, no clocks: a row says how many steps one run must take at least,
and each was far below that once. The second table says what ordinary code may take at
most. What a step takes in time is measured by `bench/step_prices.py`.
"""

from __future__ import annotations

import itertools

import pytest
from test_prices import SEED, runtime, steps

from sandbox import costs
from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime
from sandbox.keys import COLLISIONS_MAX, TUPLES_MAX, Keys
from sandbox.meter import Meter

__all__ = ["runtime"]  # the fixture

# ruff: noqa: E501  (rows are kept on one line)

LONG = "[tuple(range(i, i + 1000)) for i in range(100)]"
SETS = f"s, t = set({LONG}), set({LONG})"
WALKED = 100 * 1000 // costs.WALK_ITEMS
COUNTERS = f"from collections import Counter\nc, d = Counter({LONG}), Counter({LONG})"
NUMBERS = "from collections import Counter\nc = Counter(range(20000))"
DATES = "from datetime import date, timedelta\nxs = [date(2000, 1, 1) + timedelta(days=i) for i in range(5000)]\ny = date(1999, 1, 1)"
DECIMALS = "from decimal import Decimal\nxs = [Decimal(i) for i in range(5000)]\ny = Decimal(-1)"
HUGE = "xs, ys = [2 ** 16000 + i for i in range(500)], [2 ** 16000 + i for i in range(500)]"
BITS = 500 * 16000 // costs.INTEGER_BITS
WIDE = "from functools import partial\ndef f(*args, **more): pass\np = partial(f, *range(100000))"
FIELDS = (
    "from dataclasses import dataclass, replace\n@dataclass(frozen=True)\nclass P:\n"
    + "".join(f"    a{i}: int = 1\n" for i in range(100))
    + "p = P()"
)

# What is prepared, what is run, how many steps it must take at least.
PRICES = {
    "sets joined": (SETS, "s | t", WALKED),
    "sets intersected": (SETS, "s & t", WALKED),
    "sets subtracted": (SETS, "s - t", WALKED),
    "sets, either": (SETS, "s ^ t", 2 * WALKED),
    "sets compared": (SETS, "s == t", WALKED),
    "sets, subset": (SETS, "s <= t", WALKED),
    "sets, superset": (SETS, "s >= t", WALKED),
    "sets, subset by name": (SETS, "s.issubset(t)", WALKED),
    "sets, superset by name": (SETS, "s.issuperset(t)", WALKED),
    "sets, disjoint": (f"s, t = set({LONG}), set()", "t.isdisjoint(s)", WALKED),
    "sets joined in place": (SETS, "s.update(t)", WALKED),
    "sets subtracted in place": (SETS, "s.difference_update(t)", WALKED),
    "sets intersected in place": (SETS, "s.intersection_update(t)", WALKED),
    "frozen sets hashed": (f"s = frozenset({LONG})\nd = {{s: 1}}", "d.get(s)", WALKED),
    "dicts joined": (f"d, e = dict.fromkeys({LONG}), dict.fromkeys({LONG})", "d | e", WALKED),
    "dicts unpacked": (f"d, e = dict.fromkeys({LONG}), dict.fromkeys({LONG})", "{**d, **e}", 2 * WALKED),
    "dicts updated": (f"d, e = dict.fromkeys({LONG}), dict.fromkeys({LONG})", "d.update(e)", WALKED),
    "views compared": (f"d, e = dict.fromkeys({LONG}), dict.fromkeys({LONG})", "d.keys() == e.keys()", WALKED),
    "sets of long texts": ("s, t = ({'a' * 10**5 + str(i) for i in range(50)} for j in 'ab')", "s & t", 9_000),
    "sets of long integers": ("s, t = ({2 ** 16000 + i for i in range(100)} for j in 'ab')", "s & t", 6_000),
    "many small sets joined": ("s, t = {1}, [set()] * 1000", "s.union(*t)", 2_000),
    "many small sets taken in": ("s, t = {1}, [()] * 1000", "s.update(*t)", 2_000),
    "counters added": (COUNTERS, "c + d", WALKED),
    "counters, largest": (COUNTERS, "c | d", WALKED),
    "a counter updated": (COUNTERS, "c.update(d)", WALKED),
    "counters of numbers added": (NUMBERS, "c + c", 40_000),
    "a counter updated by numbers": (NUMBERS, "c.update(c)", 20_000),
    "a counter's total": (NUMBERS, "c.total()", 20_000),
    "a counter's elements": (NUMBERS, "c.elements()", 20_000),
    "a dict of a list": ("xs = list(range(10000))", "dict.fromkeys(xs)", 10_000),
    "keywords": ("def f(**more): pass\nd = {str(i): i for i in range(10000)}", "f(**d)", 10_000),
    "dates in a list": (DATES, "y in xs", 5_000),
    "dates not in a list": (DATES, "y not in xs", 5_000),
    "dates counted": (DATES, "xs.count(y)", 5_000),
    "dates found": (DATES, "xs.index(y)", 5_000),
    "dates removed": (DATES, "xs.remove(y)", 5_000),
    "dates in a tuple": (DATES + "\nxs = tuple(xs)", "xs.count(y)", 5_000),
    "dates in a deque": ("from collections import deque\n" + DATES + "\nxs = deque(xs)", "y in xs", 5_000),
    "dates compared": (DATES, "xs == xs[:]", 10_000),
    "dates sorted": (DATES, "xs.sort()", 5_000 * 6),
    "decimals in a list": (DECIMALS, "y in xs", 5_000),
    "numbers among decimals": (DECIMALS, "-1 in xs", 5_000),
    "texts among decimals": (DECIMALS, "'a' in xs", 5_000),
    "long integers compared in lists": (HUGE, "xs == ys", 2 * BITS),
    "long integers in tuples": (HUGE + "\nd, k = {}, tuple(xs)", "d.get(k)", BITS),
    "long integers in a list": (HUGE, "-ys[0] in xs", 500 * 15),
    "long integers added": ("xs = [2 ** 16000, -2 ** 16000] * 1000", "sum(xs)", 2_000 * 62),
    "numbers added to a long integer": ("n, xs = 2 ** 16000, [1] * 1000", "sum(xs, n)", 1_000 * 62),
    "decimals added": (DECIMALS, "sum(xs, y)", 10_000),
    "long lists sorted": ("xs = [list(range(1000)) + [i] for i in range(100)]", "sorted(xs)", 100 * 125 * 3),
    "long texts sorted by a key": ("xs = ['a' * 20000 + str(i) for i in range(100)]", "sorted(xs, key=str.strip)", 100 * 39 * 3),
    "long texts among values": ("d = {i: 'a' * 500000 + str(i) for i in range(9)}\ny = 'a' * 500001", "y in d.values()", 8_000),
    "long texts in an iterator": ("xs = ['a' * 500000 + str(i) for i in range(9)]\ny = 'a' * 500001", "y in iter(xs)", 8_000),
    "long integers divided": ("a, b = 3 ** 10000, 3 ** 9999", "a / b", 61),
    "long integers divided in a function": ("def f(a, b): return a / b\na, b = 3 ** 10000, 3 ** 9999", "f(a, b)", 61),
    "long integers divided in place": ("def f(a, b): a /= b\na, b = 3 ** 10000, 3 ** 9999", "f(a, b)", 61),
    "long integers divided in a comprehension": ("a, b = 3 ** 10000, 3 ** 9999", "[a / b for i in 'ab']", 122),
    "fields in one text": ("from collections import namedtuple\nnames = 'a ' * 50000", "namedtuple('P', names)", 25_000),
    "a generator of many arguments": ("def g(*args): yield 1\nxs = [1] * 10000", "g(*xs)", 10_000 // costs.TABLE_ITEMS),
    "a dataclass made": (FIELDS, "P()", 50),
    "a dataclass replaced": (FIELDS, "replace(p, a1=2)", 100),
    "dataclasses compared": (FIELDS, "p == P()", 100),
    "a dataclass hashed": (FIELDS, "{p: 1}", 50),
    "many arguments bound": (WIDE, "p()", 100_000 // costs.COPY_ITEMS),
    "many arguments bound many times": (WIDE + "\nq = f\nfor i in range(9): q = partial(q)\nq = partial(q, *range(100000))", "q()", 10 * (100_000 // costs.COPY_ITEMS)),
    "many keywords bound": (WIDE + "\nq = partial(f, **{str(i): i for i in range(10000)})", "q()", 10_000 // costs.TABLE_ITEMS),
    "many sources": ("xs = [[]] * 10000", "zip(*xs)", 10_000),
    "many values printed": ("xs = [1] * 10000", "print(*xs)", 10_000 // costs.TABLE_ITEMS),
    "many classes": ("t = int | str\nfor i in range(300): t = t | list", "isinstance(1.5, t)", 300),
    "bytes of a list": ("xs = [1] * 10000", "bytes(xs)", 10_000 // costs.TABLE_ITEMS),
    "a removal from a large dict": ("d = {i: i for i in range(200000)}", "d.pop(7)", 200_000 // costs.REMOVED_ITEMS),
    "a deletion from a large dict": ("d = {i: i for i in range(200000)}", "del d[7]", 200_000 // costs.REMOVED_ITEMS),
    "a removal from a large set": ("s = {i for i in range(200000)}", "s.discard(7)", 200_000 // costs.REMOVED_ITEMS),
    "a key of shared tuples": ("t = (1, 2)\nfor i in range(16): t = (t, t)", "{t: 1}", 2**16),
    "a lookup by shared tuples": ("t = (1, 2)\nfor i in range(16): t = (t, t)\nd = {}", "d.get(t)", 2**16),
    "shared tuples in a set": ("t = (1, 2)\nfor i in range(16): t = (t, t)", "{t}", 2**16),
}  # fmt: skip

# What apps do, and how many steps it may take at most.
ORDINARY = {
    "a cell of a grid": ("grid = {}", "grid[3, 4] = 1", 3),
    "a cell of a grid read": ("grid = {(3, 4): 1}", "grid[3, 4]", 2),
    "a cell of a grid, asked for": ("grid = {(3, 4): 1}", "(3, 5) in grid", 2),
    "a pair of a text and a number": ("seen = set()", "seen.add(('user', 17))", 2),
    "a number taken from a dict": ("d = {i: i for i in range(1000)}", "d.pop(7)", 1),
    "a small dict joined": ("d, e = {'a': 1}, {'b': 2}", "{**d, **e}", 3),
    "a small set intersected": ("s, t = {1, 2, 3}, {2, 3}", "s & t", 4),
    "a number in a list": ("xs = list(range(1000))", "-1 in xs", 1000 // costs.COPY_ITEMS + 1),
    "small numbers added": ("xs = list(range(1000))", "sum(xs)", 1000 // costs.COPY_ITEMS + 1000 * 10 // costs.INTEGER_BITS + 2),
    "floats divided": ("a, b = 1.5, 2.5", "a / b, a / 2, 1 / b", 0),
    "a loop over a range": ("n = 9", "for i in range(n): pass", 10),
}  # fmt: skip


@pytest.mark.parametrize("title", list(PRICES))
def test_work_on_keys_and_tables_is_paid_for(title: str, runtime: GuestRuntime) -> None:
    before, work, least = PRICES[title]
    assert steps(runtime, before, work) >= least


@pytest.mark.parametrize("title", list(ORDINARY))
def test_ordinary_work_stays_cheap(title: str, runtime: GuestRuntime) -> None:
    before, work, most = ORDINARY[title]
    assert steps(runtime, before, work) <= most + 1  # a step for the call


def run(runtime: GuestRuntime, program: str, fuel: int = 50_000_000) -> dict[str, object]:
    runtime.reset(seed=SEED, now_ms=0.0, fuel=fuel)
    namespace = runtime.namespace("keys")
    runtime.run(compile_module(program, "keys.py", "keys"), namespace)
    return namespace


# ---- what is tame --------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        b"",
        0,
        -1,
        2**61 - 2,
        1.5,
        None,
        True,
        ("a", 1),
        ("a", "b"),
        ("a", None),
        ("a", ("b", "c")),
        (1,),
        (),
    ],
)
def test_keys_that_nobody_can_make_collide_are_tame(key: object) -> None:
    assert Keys(Meter()).is_tame(key)


@pytest.mark.parametrize(
    "key",
    [
        2**61 - 1,
        -(2**70),
        (1, 2),
        (1, "a", 2),
        ("a", 2**61),
        (1, True),
        (1, None),
        (1, 1.5),
        (1, ""),
        ("", b""),
        ((1,),),
        ("a", (1,)),
        ((), 1),
        ((), ()),
        frozenset(),
    ],
)
def test_keys_that_can_be_solved_for_are_counted(key: object) -> None:
    assert not Keys(Meter()).is_tame(key)


SOLVED = """
def solved(count, wanted=12345):
    p1, p2, p5, m = 11400714785074694791, 14029467366897019727, 2870177450012600261, 2 ** 64
    inverse, found, a = pow(p2, -1, m), [], 0
    while len(found) < count:
        a += 1
        acc = (p5 + a * p2) % m
        acc = (acc * 2 ** 31 + acc // 2 ** 33) % m * p1 % m
        b = (wanted - acc) * inverse % m
        if b < 2 ** 61 - 1: found.append((a, b))
    return found
pairs = solved({count})
"""


def test_the_pairs_below_do_collide(runtime: GuestRuntime) -> None:
    pairs = run(runtime, SOLVED.format(count=9))["pairs"]
    assert isinstance(pairs, list)
    assert len(set(map(hash, pairs))) == 1


def test_tuples_that_collide_pay_for_each_other_where_they_are_stored(runtime: GuestRuntime) -> None:
    taken = steps(runtime, SOLVED.format(count=400), "{p: 1 for p in pairs}")
    assert taken >= 400 * 400 // 2 // 4


def test_tuples_that_collide_pay_for_each_other_where_they_are_looked_up(runtime: GuestRuntime) -> None:
    before = SOLVED.format(count=401) + "d = {p: 1 for p in pairs[:400]}\nlast = pairs[400]"
    for work in ("last in d", "d.get(last)", "d[pairs[399]]", "d.pop(last, None)"):
        assert steps(runtime, before, work) >= 100, work
    for work in ("dict(d)", "{**d}", "d | d", "d.copy()", "set(d)"):
        assert steps(runtime, before, work) >= 400 * 100, work


def test_so_many_tuples_of_one_hash_are_refused(runtime: GuestRuntime) -> None:
    with pytest.raises(ValueError, match=str(TUPLES_MAX)):
        run(runtime, SOLVED.format(count=TUPLES_MAX + 1) + "d = {p: 1 for p in pairs}")


def test_so_many_other_keys_of_one_hash_are_refused(runtime: GuestRuntime) -> None:
    with pytest.raises(ValueError, match=str(COLLISIONS_MAX)):
        run(runtime, f"d = {{i * (2 ** 61 - 1): i for i in range({COLLISIONS_MAX + 2})}}")


def test_vectors_of_small_numbers_are_never_refused(runtime: GuestRuntime) -> None:
    """-1 and -2 hash alike, so 2**7 of these have one hash."""
    program = """
from itertools import product
d = {v: sum(v) for v in product((-2, -1, 0, 1), repeat=7)}
x = (len(d), d[-1, -2, 0, 1, -1, -1, -2])
"""
    assert run(runtime, program)["x"] == (4**7, -6)


def test_a_grid_around_the_origin_is_never_refused(runtime: GuestRuntime) -> None:
    """-1 and -2 hash alike: more pairs of keys collide than are remembered."""
    program = """
d = {}
for y in range(70000):
    d[-1, y] = y
    d[-2, y] = -y
x = (len(d), d[-1, 69999], d[-2, 5])
"""
    assert run(runtime, program)["x"] == (140_000, 69_999, -5)


# ---- ranges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        "range(2 ** 600)",
        "range(n)",
        "range(0, n, 3)",
        "range(0, 9, n)",
        "range(10)[::n]",
        "list(map(range, [n]))",
        "range(*[0, n])",
    ],
)
def test_a_range_over_long_integers_is_refused(made: str, runtime: GuestRuntime) -> None:
    program = f"def f(n):\n    return {made}\nx = f(3 ** 5000)\n"
    with pytest.raises(OverflowError, match=str(costs.RANGE_BITS)):
        run(runtime, program)


def test_a_step_of_a_range_does_not_grow_by_slicing(runtime: GuestRuntime) -> None:
    with pytest.raises(OverflowError, match=str(costs.RANGE_BITS)):
        run(runtime, "r = range(2 ** 500)\nfor i in range(20): r = r[::2 ** 60]\n")


def test_ranges_are_what_they_are(runtime: GuestRuntime) -> None:
    program = """
def f(n, m, t):
    xs = list(range(n)), list(range(n, m)), list(range(m, n, -2)), list(range(len("abc"))), list(range(t))
    try:
        range("a")
    except TypeError as error:
        return *xs, str(error), range(n)[1:], 2 ** 61 in range(2 ** 62), range(2, 9, 3).index(5)
x = f(3, 9, True)
"""
    want = ([0, 1, 2], [3, 4, 5, 6, 7, 8], [9, 7, 5], [0, 1, 2], [0])
    error = "'str' object cannot be interpreted as an integer"
    assert run(runtime, program)["x"] == (*want, error, range(1, 3), True, 1)


# ---- holes ---------------------------------------------------------------------------

REMOVALS = {
    "del": ("d = {i: i for i in range(30000)}", "del d[i]", "d"),
    "pop": ("d = {i: i for i in range(30000)}", "d.pop(i)", "d"),
    "default dict": ("from collections import defaultdict\nd = defaultdict(int, {i: i for i in range(30000)})", "del d[i]", "d._items"),
    "ordered dict": ("from collections import OrderedDict\nd = OrderedDict((i, i) for i in range(30000))", "d.popitem(last=False)", "d._items"),
    "moved to the end": ("from collections import OrderedDict\nd = OrderedDict((i, i) for i in range(30000))", "d.move_to_end(i)", "d._items"),
    "set": ("d = {i for i in range(30000)}", "d.remove(i)", "d._items"),
    "set pop": ("d = {i for i in range(30000)}", "d.pop()", "d._items"),
}  # fmt: skip


@pytest.mark.parametrize("title", list(REMOVALS))
def test_a_large_table_does_not_keep_its_holes(title: str, runtime: GuestRuntime) -> None:
    """A table of few items that is large in memory is one whose holes iteration passes over."""
    ready, removal, held = REMOVALS[title]
    most = 25_000
    found = run(runtime, f"{ready}\nfor i in range({most}): {removal}\n")
    table = found["d"] if held == "d" else found["d"]._items  # type: ignore[attr-defined]  # of the host
    assert isinstance(table, dict)
    assert list(table)[:1] == [most]
    if title != "moved to the end":
        assert len(table) == 30_000 - most
        assert table.__sizeof__() < 2 * dict(table).__sizeof__()


def test_when_a_table_is_made_anew_depends_on_the_seed_alone(runtime: GuestRuntime) -> None:
    """An entry that is stored while its dict is iterated over is met or passed over, as the table has it."""
    program = """
d = {i: i for i in range(20000)}
seen = []
for k in d:
    seen.append(k)
    del d[k]
    d[-1 - k] = k
    if len(seen) == 15000: break
x = tuple(seen)
"""
    outcomes = set()
    for seed, _ in itertools.product((SEED, bytes(32)), range(2)):
        runtime.reset(seed=seed, now_ms=0.0, fuel=50_000_000)
        namespace = runtime.namespace("holes")
        runtime.run(compile_module(program, "holes.py", "holes"), namespace)
        outcomes.add((seed, namespace["x"], runtime.steps_used))
    assert len(outcomes) == 2
    assert len({used for _, _, used in outcomes}) == 1
