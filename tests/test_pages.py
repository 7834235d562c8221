"""What the pages point at is there: links, headings, commands with their options, and a way to every page."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import click
import pytest

from engine.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*/*.md"),
        *ROOT.glob("examples/*/*/*.md"),
    ],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
COMMAND = re.compile(r"`tidewell ([^`]+)`|^(?:\S*=\S+ )*(?:\S*/)?tidewell (.+)$", re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@cache
def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[tuple[Path, str]]:
    """Return the file and the heading that each link of a page leads to."""
    return [
        ((page.parent / target).resolve() if target else page, heading)
        for target, heading in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))
    ]


def anchors(page: Path) -> set[str]:
    """Return the names of the headings of a page, as links say them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), target
        assert not heading or heading in anchors(target), (target, heading)


@each_page
def test_commands_that_a_page_names_exist_with_their_options(page: Path) -> None:
    for inline, line in COMMAND.findall(page.read_text()):
        words = (inline or line).split()
        command: click.Command = main
        while isinstance(command, click.Group) and words and words[0][0] not in "-(":
            assert words[0] in command.commands, (command.name, words)
            command = command.commands[words.pop(0)]
        known = {"--help", *(name for param in command.params for name in param.opts + param.secondary_opts)}
        named = {word.partition("=")[0].rstrip("`,.;:") for word in words if re.match(r"--\w", word)}
        assert named <= known, (command.name, named - known)


def test_every_page_can_be_found_from_the_readme() -> None:
    found, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            pending += [target for target, _ in links(page)]
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= found
