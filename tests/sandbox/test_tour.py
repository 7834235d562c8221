"""Everyday Python works in functions, gives what CPython gives, and the pages say so."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pages
import pytest
from language import Snippet, read_tour, run_in_python, run_in_sandbox

TOUR = read_tour()
ROOT = Path(__file__).resolve().parents[2]


def test_the_tour_is_long_enough_to_be_one() -> None:
    assert len(TOUR) >= 150
    assert len({(snippet.topic, snippet.title) for snippet in TOUR}) == len(TOUR)


@pytest.mark.parametrize("snippet", TOUR, ids=lambda snippet: f"{snippet.topic}-{snippet.title}")
def test_a_snippet_gives_what_cpython_gives(snippet: Snippet) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        expected = run_in_python(snippet.source)
    outcome = run_in_sandbox(snippet.source)
    assert outcome.result == expected
    assert "".join(f"{line}\n" for line in outcome.log) == printed.getvalue()
    assert outcome.steps < 20_000


@pytest.mark.parametrize("path", list(pages.PAGES))
def test_the_pages_are_rendered_from_the_tables(path: str) -> None:
    assert (ROOT / path).read_text() == pages.PAGES[path](), f"run tests/sandbox/pages.py --write for {path}"
