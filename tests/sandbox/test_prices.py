"""What single operations of C cost in steps: at least in proportion to their work.

No clocks: each row says how many steps one run must take at least, from what the
interpreter does at worst (places compared, characters looked up, digits made).
The attack corpus shows the same from the other side, as programs that end.
"""

from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # not in the stubs
import gc
import urllib.parse

import pytest
import re2  # type: ignore[import-untyped]  # a compiled package without stubs

from sandbox.compiler import compile_module
from sandbox.facades.re_shapes import reads_on
from sandbox.guest import GuestRuntime, prepare_process
from sandbox.policy import TEXT_LENGTH_MAX

SEED = bytes(range(32))

# ruff: noqa: E501  (rows are kept on one line)

# What is prepared, what is run, how many steps it must take at least.
PRICES = {
    "searching backwards": ("s, t = 'a' * 10**6, 'b' + 'a' * 500", "s.rfind(t)", 400_000),
    "searching backwards for a place": ("s, t = 'a' * 10**6, 'a' + 'a' * 500", "s.rindex(t)", 400_000),
    "splitting backwards": ("s, t = 'a' * 10**6, 'b' + 'a' * 500", "s.rsplit(t)", 400_000),
    "parting backwards": ("s, t = 'a' * 10**6, 'b' + 'a' * 500", "s.rpartition(t)", 400_000),
    "searching bytes backwards": ("s, t = b'a' * 10**6, b'b' + b'a' * 500", "s.rfind(t)", 400_000),
    "searching a short text backwards": ("s, t = 'a' * 120, 'b' + 'a' * 60", "s.rfind(t)", 5),
    "searching a text of two thousand": ("s, t = 'a' * 2400, 'a' * 1198 + 'ba'", "s.find(t)", 1_400),
    "counting in a text of two thousand": ("s, t = 'a' * 2400, 'a' * 1198 + 'ba'", "s.count(t)", 1_400),
    "replacing in two thousand": ("s, t = 'a' * 2400, 'a' * 1198 + 'ba'", "s.replace(t, '')", 1_400),
    "splitting a text of two thousand": ("s, t = 'a' * 2400, 'a' * 1198 + 'ba'", "s.split(t)", 1_400),
    "parting a text of two thousand": ("s, t = 'a' * 2400, 'a' * 1198 + 'ba'", "s.partition(t)", 1_400),
    "membership in a text of two thousand": ("s, t = 'a' * 2400, 'a' * 1198 + 'ba'", "t in s", 1_400),
    "membership in bytes": ("s, t = b'a' * 29000, b'a' * 97 + b'ba'", "t in s", 2_800),
    "searching with a needle of ninety-nine": ("s, t = 'a' * 29000, 'a' * 97 + 'ba'", "s.find(t)", 2_800),
    "searching with little room": ("s, t = 'a' * 10**6, 'a' * 997998 + 'ba'", "s.find(t)", 1_900_000),
    "trimming by many characters": ("s, t = 'a' * 10**6, 'b' * 999 + 'a'", "s.strip(t)", 900_000),
    "trimming the left by many": ("s, t = 'a' * 10**6, 'b' * 999 + 'a'", "s.lstrip(t)", 900_000),
    "trimming bytes by many": ("s, t = b'a' * 10**6, b'b' * 999 + b'a'", "s.rstrip(t)", 900_000),
    "trimming a short text by many": ("s, t = 'a' * 9, 'b' * 10**6", "s.strip(t)", 30_000),
    "a long edge": ("s, t = 'a' * 10**6, 'a' * 999999", "s.startswith(t)", 1_900),
    "a long edge of bytes": ("s, t = b'a' * 10**6, b'a' * 999999", "s.endswith(t)", 1_900),
    "many long edges": ("s, t = 'a' * 9999, ('a' * 9998 + 'b',) * 1000", "s.startswith(t)", 19_000),
    "many long edges of a short text": ("s, t = 'a' * 100, ('a' * 99 + 'b',) * 1000", "s.endswith(t)", 1_100),
    "writing bad bytes out": ("s = b'\\xff' * 10**5", "s.decode('ascii', 'backslashreplace')", 40_000),
    "writing characters out": ("s = '€' * 10**5", "s.encode('ascii', 'xmlcharrefreplace')", 40_000),
    "reading a text of two hundred": ("s = 'é' * 200", "s.lower()", 6),
    "tabs": ("s = '\\t' * 10**5", "s.expandtabs(9)", 4_500),
    "tabs that are refused": ("s = '\\t' * 10**5", "s.expandtabs(99)", 3_000),
    "text that is refused": ("s = '\\0' * 10**6", "repr(s)", 30_000),
    "text that is refused in ASCII": ("s = '\\0' * 10**6", "f'{s!a}'", 30_000),
    "joining a letter each": ("s = ['a'] * 10**5", "''.join(s)", 18_000),
    "digits of a far float": ("x = 1.2345e300", "f'{x:.2f}'", 30),
    "digits of a small float": ("x = 2.225073858507201e-308", "repr(x)", 30),
    "digits of floats in a list": ("x = [1.2345e300] * 9", "str(x)", 270),
    "many digits of a float": ("x = 0.1", "f'{x:.1000f}'", 60),
    "rounding a far float": ("x = 1.2345e300", "round(x, 2)", 30),
    "reading a long float": ("s = '9' * 4900", "float(s)", 600),
    "numbers from bytes": ("s = b'a' * 2000", "int.from_bytes(s, 'little')", 30),
    "bytes from numbers": ("n = 1", "n.to_bytes(16000, 'big')", 240),
    "matches that read on": ("import re\np, s = re.compile('a.*b|a'), 'a' * 2000", "p.findall(s)", 12_000),
    "matches one by one": ("import re\ns = 'a' * 2000", "list(re.finditer('a.*b|a', s))", 12_000),
    "splits that read on": ("import re\np, s = re.compile('a.*b|a'), 'a' * 2000", "p.split(s)", 12_000),
    "replacements that read on": ("import re\ns = 'a' * 2000", "re.sub('a.*b|a', '', s)", 12_000),
    "bytes that read on": ("import re\ns = b'a' * 2000", "re.findall(b'a.*b|a', s)", 12_000),
    "groups of a program": ("import re\np = re.compile('(a{0,999})b')", "p.search('a' * 9999)", 45_000),
    "text of groups": ("import re\nm = re.match('(.*)', 'a' * 10**6)", "m.group(0, 1, 0, 1)", 7_000),
    "a pattern of classes": ("import re\nq = r'\\pL\\pN' * 300", "re.compile(q)", 40_000),
    "dates as text": ("from datetime import datetime\nd = datetime(2026, 1, 1)", "d.strftime('%c' * 99)", 300),
    "digits among codes": ("from datetime import datetime\nd = '1' * 14", "datetime.strptime(d, '%d%m%H%I%M%S%U%W%jx')", 50),
    "decimals from far floats": ("from decimal import Decimal", "Decimal(5e-324)", 35),
    "decimals compared with far floats": ("from decimal import Decimal\nd = Decimal(1)", "d == 5e-324", 3),
    "whole far decimals": ("from decimal import Decimal\nd = Decimal('1e900')", "round(d)", 30),
    "far decimals in a format": ("from decimal import Decimal\nd = Decimal('1e900')", "f'{d:,}'", 30),
    "a UUID from text": ("import uuid", "uuid.UUID('12345678123456781234567812345678')", 6),
    "JSON that is no text": ("import json\ns = b'\\xff' * 10**6", "json.loads(s)", 250_000),
    "JSON of far floats": ("import json\ns = [5e-324] * 100", "json.dumps(s)", 3_000),
    "base64 that is no text": ("import base64\ns = 'é' * 10**6", "base64.b64decode(s)", 30_000),
    "bytes in a query": ("from urllib.parse import quote\ns = b'a' * 80000", "quote(s)", 20_000),
    "an address in its normal form": ("from urllib.parse import urlparse\ns = 'http://' + 'é' * 16000", "urlparse(s)", 18_000),
    "an address put together": ("from urllib.parse import urlparse\nu = urlparse('http://a/' + 'd' * 16000)", "u.geturl()", 500),
    "exact sums": ("import math\ns = [1e300, 1e-300] * 500", "math.fsum(s)", 2_000),
    "long words cut into letters": ("import textwrap\ns = 'a' * 60000", "textwrap.wrap(s, 1)", 300_000),
    "tabs that are wrapped": ("import textwrap\ns = '\t' * 8000", "textwrap.wrap(s, 1)", 200_000),
    "bits of a number": ("n = 2 ** 16000 - 1", "n.bit_count()", 15),
}  # fmt: skip

# Results longer than the text they are made of.
GROWING = {
    "upper": "('ß' * 10**6).upper()",
    "lower": "('İ' * 10**6).lower()",
    "title": "('ŉ ' * (5 * 10**5)).title()",
    "capitalize": "('ß' + 'İ' * 10**6).capitalize()",
    "casefold": "('ΐ' * 10**6).casefold()",
    "swapcase": "('ß' * 10**6).swapcase()",
    "decode": "(b'\\xff' * 10**6).decode('utf-8', 'backslashreplace')",
    "encode": "('€' * 10**6).encode()",
    "expandtabs": "('\\t' * 10**6).expandtabs(9)",
    "translate": "('a' * 10**6).translate({97: 'bb'})",
    "center": "'a'.center(2 * 10**6)",
    "zfill": "'a'.zfill(2 * 10**6)",
    "replace": "('a' * 10**6).replace('a', 'bb')",
    "replace of nothing": "('a' * 10**6).replace('', 'b')",
    "join": "('a' * 10**6).join('abc')",
    "ascii": "f\"{'é' * 10**6!a}\"",
    "str of bytes": "str(b'\\xff' * 10**6, 'utf-8', 'backslashreplace')",
}


@pytest.fixture(scope="module")
def runtime() -> GuestRuntime:
    prepare_process()
    return GuestRuntime()


def steps(runtime: GuestRuntime, before: str, work: str) -> int:
    """Return the steps of `work` alone, whether it has a value or is refused."""
    program = f"""
{before}
def done():
    try:
        {work}
    except ValueError:
        pass
"""
    runtime.reset(seed=SEED, now_ms=0.0, fuel=50_000_000)
    namespace = runtime.namespace("priced")
    runtime.run(compile_module(program, "priced.py", "priced"), namespace)
    prepared = runtime.steps_used
    runtime.call(namespace["done"])
    return runtime.steps_used - prepared


@pytest.mark.parametrize("title", list(PRICES))
def test_work_inside_one_call_is_paid_for(title: str, runtime: GuestRuntime) -> None:
    before, work, least = PRICES[title]
    assert steps(runtime, before, work) >= least


@pytest.mark.parametrize("title", list(GROWING))
def test_a_result_that_grew_too_long_is_refused(title: str, runtime: GuestRuntime) -> None:
    runtime.reset(seed=SEED, now_ms=0.0, fuel=50_000_000)
    program = f"x = {GROWING[title]}\n"
    with pytest.raises(ValueError, match=str(TEXT_LENGTH_MAX)):
        runtime.run(compile_module(program, "grown.py", "grown"), runtime.namespace("grown"))


# Searches that are paid for by the text and the matches: they stop where the match ends.
STOPPING = [
    r"\d+", r"\w+", r"<[^>]*>", r"(\w+)=(\w+)", r"https?://\S+", r"\w+@\w+\.\w+", r"[,;]\s*", r"\b\w+\b",
    r"#(?P<tag>\w+)", r"\d{4}-\d{2}", r"a|b|c", '"[^"]*"', r"[\w.-]+",
]  # fmt: skip
READING_ON = [
    "a.*b|a", "(ab)*a", r"\w+(\s+\w+)*", r"\d*\.?\d+", "x+xy|x", "(?i)a+b", r"\pL+a", "[[:alpha:]]+a", "a**",
    "a{2", "é+k", r"a+(b.*c)?",
]  # fmt: skip


@pytest.mark.parametrize("pattern", STOPPING)
def test_a_pattern_that_stops_with_its_match_is_known(pattern: str) -> None:
    assert not reads_on(pattern, folded=False)


@pytest.mark.parametrize("pattern", READING_ON)
def test_a_pattern_that_may_read_on_is_known(pattern: str) -> None:
    assert reads_on(pattern, folded=True)


def test_matches_that_stop_are_cheap_in_a_long_text(runtime: GuestRuntime) -> None:
    before = "import re\np, s = re.compile(r'\\w+'), 'word ' * 20000"
    assert steps(runtime, before, "p.findall(s)") <= 20_000 * 10


def test_nothing_that_modules_keep_survives_a_call(runtime: GuestRuntime) -> None:
    """Patterns with their automata, parsed addresses, formats of dates: memory of one call alone."""
    kind = type(re2.compile("a"))
    re2.purge()
    program = """
import re
from datetime import datetime
from urllib.parse import quote, urlparse
def done():
    for i in range(20):
        re.search(f"(a|b)*a(a|b){{{i + 1}}}c", "ab" * 5000)
        urlparse(f"https://example.org/{i}")
        quote("a b", safe=str(i))
    return str(datetime.strptime("2026 11", "%Y %m"))
"""
    namespace = runtime.namespace("keeping")
    runtime.reset(seed=SEED, now_ms=0.0, fuel=50_000_000)
    runtime.run(compile_module(program, "keeping.py", "keeping"), namespace)
    assert runtime.call(namespace["done"]) == "2026-11-01 00:00:00"
    assert not [held for held in gc.get_objects() if type(held) is kind and held.pattern.endswith("c")]
    runtime.reset(seed=SEED, now_ms=0.0, fuel=50_000_000)
    assert not urllib.parse.urlsplit.cache_info().currsize  # type: ignore[attr-defined]  # it is cached
    assert not _strptime._regex_cache


def test_ordinary_text_work_stays_cheap(runtime: GuestRuntime) -> None:
    """The prices are for the worst; what apps do with short texts takes the step of its call at most."""
    before = "s, row = '  Ada Lovelace, London  ', 'a,b,c,d'"
    work = "s.strip().lower().split(', '), row.split(','), s.find('x'), s.startswith('A'), 'x' in s"
    assert steps(runtime, before, work) <= 12
