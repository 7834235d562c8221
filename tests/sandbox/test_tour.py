"""Everyday Python works in functions, gives what CPython gives, and the pages say so."""

from __future__ import annotations

import ast
import contextlib
import io
import textwrap
from pathlib import Path

import pages
import pytest
from language import Snippet, read_tour, run_in_python, run_in_sandbox, with_result

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


def fits_in_a_function(snippet: Snippet) -> bool:
    refused = (ast.Import, ast.ImportFrom, ast.Global)
    nodes = list(ast.walk(ast.parse(snippet.source)))
    return not any(isinstance(node, refused) for node in nodes) and '"""' not in snippet.source


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in TOUR if fits_in_a_function(snippet)],
    ids=lambda snippet: f"{snippet.topic}-{snippet.title}",
)
def test_a_snippet_gives_the_same_inside_a_function(snippet: Snippet) -> None:
    """Guards are written out in other forms there, and locals may be known to be integers."""
    body = textwrap.indent(with_result(snippet.source), "    ")
    source = f"def wrapper():\n{body}    return result\nwrapper()\n"
    with contextlib.redirect_stdout(io.StringIO()):
        expected = run_in_python(source)
    assert run_in_sandbox(source).result == expected


@pytest.mark.parametrize("path", list(pages.PAGES))
def test_the_pages_are_rendered_from_the_tables(path: str) -> None:
    assert (ROOT / path).read_text() == pages.PAGES[path](), f"run tests/sandbox/pages.py --write for {path}"
