"""Errors of the interpreter read alike on every version, and so do the steps of looking into them."""

from __future__ import annotations

import pytest

from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime, prepare_process
from sandbox.messages import LENGTH_MAX, steady

# What is raised, and the text that a guest and a client see on 3.11, 3.12 and 3.13.
TEXTS = {
    "list(str)": "the class str is not iterable",
    "{}[1:2]": "unhashable type: 'slice'",
    "max([])": "max() arg is an empty sequence",
    "min(())": "min() arg is an empty sequence",
    "x % 0": "float modulo",
    "x // 0": "float floor division by zero",
    "chr(10 ** 30)": "chr() arg not in range(0x110000)",
    "chr(-1)": "chr() arg not in range(0x110000)",
    "'a b'.split(max_split=1)": "split() got an unexpected keyword argument 'max_split'",
    "named(nam=1)": "named() got an unexpected keyword argument 'nam'",
    "NameError(nam=1)": "NameError() got an unexpected keyword argument 'nam'",
    "'a'.find()": "find() takes at least 1 argument(s), 0 given",
    "'a'.upper(b=1)": "upper() takes no keyword arguments",
    "'a'.find(None)": "must be str, not NoneType",
    "'a'.find(b'a')": "must be str, not bytes",
    "log()": "log() takes a number and a base",
    "nextafter(1, 2, steps=1)": "nextafter() got an unexpected keyword argument 'steps'",
}

# Commas before the end: 3.13 has a text of its own for them.
JSON = {
    "[1,]": "Expecting value: line 1 column 4 (char 3)",
    "[1, \n ]": "Expecting value: line 2 column 2 (char 6)",
    '{"a": 1,}': "Expecting property name enclosed in double quotes: line 1 column 9 (char 8)",
    '[{"a": 1, }]': "Expecting property name enclosed in double quotes: line 1 column 11 (char 10)",
}

# Addresses put together: `url` alone, or as seen from a base.
ADDRESSES = {
    ("////host/a", ""): "////host/a",
    ("http:////host", ""): "http:////host",
    ("http:", ""): "http://",
    ("file:///a/b", ""): "file:///a/b",
    ("mailto:ada@example.org", ""): "mailto:ada@example.org",
    ("http://a/b/c;p?q#f", ""): "http://a/b/c;p?q#f",
    ("http://a/b/c/d", "../../../g"): "http://a/g",
    ("http://a/b/c/d", "./"): "http://a/b/c/",
    ("http://a/b/c/d", "//other/x"): "http://other/x",
    ("http://a/b/c/d?q", "#f"): "http://a/b/c/d?q#f",
    ("http://a/b//c/d", "g"): "http://a/b/c/g",
    ("b", "////host"): "////host",
    ("http://a/b", "mailto:c"): "mailto:c",
    ("", "c/d"): "c/d",
}

# What versions do differently, brought to one result.
RESULTS = {
    "'a\\nb'.splitlines('yes')": ["a\n", "b"],
    "'a\\nb'.splitlines(None)": ["a", "b"],
    "(5).is_integer(), True.is_integer(), (1.5).is_integer()": (True, True, False),
    "int.is_integer(5), list(map(int.is_integer, [1, 2]))": (True, [True, True]),
}


@pytest.fixture(scope="module")
def runtime() -> GuestRuntime:
    prepare_process()
    return GuestRuntime()


def run(runtime: GuestRuntime, work: str) -> tuple[object, int]:
    program = f"""
from math import log, nextafter
x = 1.5
def named(name=0):
    return name
def done():
    try:
        return {work}
    except Exception as error:
        seen = ""
        for letter in str(error):
            seen = seen + letter
        return (seen, error.args)
"""
    runtime.reset(seed=bytes(32), now_ms=0.0, fuel=1_000_000)
    namespace = runtime.namespace("told")
    runtime.run(compile_module(program, "told.py", "told"), namespace)
    prepared = runtime.steps_used
    return runtime.call(namespace["done"]), runtime.steps_used - prepared


@pytest.mark.parametrize("work", list(TEXTS))
def test_an_error_reads_alike_on_every_version(work: str, runtime: GuestRuntime) -> None:
    told, steps = run(runtime, work)
    assert told == (TEXTS[work], (TEXTS[work],))
    assert steps >= len(TEXTS[work])


@pytest.mark.parametrize("work", list(RESULTS))
def test_an_operation_gives_the_same_on_every_version(work: str, runtime: GuestRuntime) -> None:
    assert run(runtime, work)[0] == RESULTS[work]


@pytest.mark.parametrize("text", list(JSON))
def test_json_that_ends_in_a_comma_is_told_alike(text: str, runtime: GuestRuntime) -> None:
    with pytest.raises(ValueError, match="Expecting") as caught:
        runtime.facade("json").loads(text)
    assert str(caught.value) == JSON[text]


@pytest.mark.parametrize(("base", "url"), list(ADDRESSES))
def test_an_address_is_put_together_alike(base: str, url: str, runtime: GuestRuntime) -> None:
    parse = runtime.facade("urllib.parse")
    made = parse.urljoin(base, url) if url else parse.urlparse(base).geturl()
    assert made == ADDRESSES[base, url]


def test_one_form_stays_what_it_is() -> None:
    for text in TEXTS.values():
        assert steady(text) == text


def test_other_texts_are_left_alone() -> None:
    for text in ("", "no such channel", "an argument about modulo", "argument " * LENGTH_MAX):
        assert steady(text) is text
