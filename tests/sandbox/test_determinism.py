"""The same run on any process: three fresh interpreters with different hash seeds, compared byte for byte.

The recorded steps are checked on whatever version runs the tests, so running them
on 3.11, 3.12 and 3.13 shows that fuel is the same on all three. `python
tests/sandbox/test_determinism.py --write` records them anew after a change of costs.
"""

# ruff: noqa: E501  (rows and programs are kept on one line)

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RECORD = HERE / "tour" / "steps.json"
HASH_SEEDS = ("0", "1", "4000000000")

# What section 6 of the threat model lists, at sizes where accidents show. Each gives a value that is compared.
LEAKS = {
    "order of a large set of texts": """
x = list({str(i * 7919) for i in range(70000)})[:50]
""",
    "order of a large set of numbers": """
s = set(i * 1000003 for i in range(70000))
s.add(-1)
x = (list(s)[:20], list(s)[-1], s.pop())
""",
    "order of None, NaN, functions and classes in a set": """
class A: pass
def f(): pass
s = {None, float("nan"), f, A, len, (1, None), "a"}
x = [str(item) for item in s]
""",
    "order of set operators": """
a, b = set("tidewell"), set("determinism")
x = [list(a | b), list(a & b), list(a - b), list(a ^ b), list({"k": 1, "z": 2}.keys() | {"y"})]
""",
    "order of views' operators": """
d = {str(i): i for i in range(70000)}
x = list(d.keys() & [str(i) for i in range(0, 70000, 7)])[:30]
""",
    "order of frozen sets in dicts": """
x = list({frozenset([str(i), i]): i for i in range(1000)}.values())[:20]
""",
    "text of objects, functions and classes": """
class A: pass
def f(): pass
x = [str(A()), repr(f), str(A), repr([A(), lambda: 0]), str(print), f"{A()}", repr(len), repr("".join), str(iter([]))]
""",
    "addresses in messages": """
class A: pass
x = []
for attempt in (lambda: [1].index(A()), lambda: {}[A()], lambda: A() < A(), lambda: A().missing, lambda: int(A())):
    try:
        attempt()
    except Exception as e:
        x.append(str(e))
        x.append(repr(e))
""",
    "the clock": """
import time
from datetime import date, datetime, timezone
x = [time.time(), time.monotonic(), time.time_ns(), str(datetime.now()), str(datetime.now(timezone.utc)), str(date.today())]
""",
    "chance": """
import random, uuid
items = list(range(20))
random.shuffle(items)
x = [random.random(), random.randint(1, 10**12), random.choice("abc"), random.sample(range(1000), 5), items,
     random.gauss(0, 1), random.uniform(1, 2), random.choices("ab", weights=[1, 3], k=5), random.randbytes(5),
     str(uuid.uuid4()), random.getrandbits(40), random.expovariate(2.0), random.randrange(0, 100, 7)]
""",
    "sums of floats": """
x = [sum([0.1] * 10), sum([1e16, 1.0, -1e16]), sum(i * 0.1 for i in range(1000)), sum([1, 0.5, True])]
""",
    "float functions": """
import math, statistics
x = [math.sqrt(2), 2 ** 0.5, statistics.mean([0.1] * 3), statistics.stdev([1.5, 2.5, 4.0]), round(2.675, 2), 1 / 3]
""",
    "memory of a swallowed error": """
x = []
try:
    "a" * 10**9
except Exception as e:
    x.append(repr(e))
""",
    "large integers as text": """
x = [str(2**4000)[:40], len(str(2**16000))]
""",
    "sorting with equal keys": """
x = sorted([(i % 3, i) for i in range(100)], key=lambda p: p[0])
""",
    "sorting what takes steps to compare": """
from dataclasses import dataclass
@dataclass(order=True)
class V:
    a: int
x = [v.a for v in sorted([V(i * 7919 % 101) for i in range(101)])]
""",
    "comparisons counted by the guest": """
from functools import cmp_to_key
count = []
def compare(a, b):
    count.append(1)
    return a - b
ordered = sorted([i * 7919 % 101 for i in range(101)], key=cmp_to_key(compare))
x = (ordered[:5], len(count))
""",
    "module state": """
seen = []
def f(into=[]):
    into.append(1)
    seen.append(1)
    return (len(into), len(seen))
x = [f(), f()]
""",
    "depth of calls": """
def f(n):
    return 0 if n == 0 else 1 + f(n - 1)
x = f(190)
""",
    "attributes of instances": """
class A:
    def __init__(self):
        self.b = 1
        self.a = 2
x = [hasattr(A(), "a"), hasattr(A(), "__dict__")]
""",
    "colliding keys keep their order": """
x = list({i * (2**61 - 1): i for i in range(30)}.values())[:10]
""",
    "grouping and counting": """
from collections import Counter, defaultdict
c = Counter(str(i % 37) for i in range(2000))
d = defaultdict(set)
for i in range(500):
    d[i % 7].add(str(i))
x = [c.most_common(5), {k: list(v)[:3] for k, v in d.items()}]
""",
}

PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from language import NOW_MS, SEED, everything
from test_determinism import LEAKS
from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime, prepare_process

prepare_process()
report = {}
for order in (list(LEAKS), list(reversed(LEAKS))):
    runtime = GuestRuntime()
    for title in order:
        log = []
        runtime.reset(seed=SEED, now_ms=NOW_MS, fuel=5_000_000, log=log.append)
        namespace = runtime.namespace("leak")
        runtime.run(compile_module(LEAKS[title], "leak.py", "leak"), namespace)
        steps = runtime.steps_used
        row = [runtime.texts.repr(namespace["x"]), log, steps]
        assert report.setdefault(title, row) == row, (title, row, report[title])
json.dump([report, everything()], sys.stdout)
"""


def report(hash_seed: str, python: str = sys.executable) -> bytes:
    paths = json.dumps([str(HERE), str(HERE.parents[1])])
    environment = {"PYTHONHASHSEED": hash_seed, "PATH": os.environ.get("PATH", "")}
    command = [python, "-c", PROGRAM, paths]
    return subprocess.run(command, capture_output=True, check=True, env=environment, timeout=120).stdout


@pytest.fixture(scope="module")
def reports() -> list[bytes]:
    return [report(seed) for seed in HASH_SEEDS]


def test_three_hash_seeds_give_the_same_bytes(reports: list[bytes]) -> None:
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize("title", list(LEAKS))
def test_a_leak_is_closed(title: str, reports: list[bytes]) -> None:
    rows = [json.loads(data)[0][title] for data in reports]
    assert rows[0] == rows[1] == rows[2]
    assert "0x" not in rows[0][0]


def test_steps_are_the_recorded_ones_on_every_version(reports: list[bytes]) -> None:
    leaks, tour = json.loads(reports[0])
    steps = {title: row[2] for title, row in {**tour, **leaks}.items()}
    assert steps == json.loads(RECORD.read_text())


if __name__ == "__main__":
    leaks, tour = json.loads(report("0"))
    steps = {title: row[2] for title, row in {**tour, **leaks}.items()}
    if "--write" in sys.argv[1:]:
        RECORD.write_text(json.dumps(steps, indent=1) + "\n")
    else:
        recorded = json.loads(RECORD.read_text())
        wrong = {
            title: (recorded.get(title), count)
            for title, count in steps.items()
            if recorded.get(title) != count
        }
        print(
            f"Python {sys.version.split()[0]}: {len(steps) - len(wrong)} of {len(steps)} programs take the recorded steps"
        )
        raise SystemExit(f"different: {wrong}" if wrong else 0)
