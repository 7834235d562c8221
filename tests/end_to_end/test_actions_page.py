"""The page about actions: its app does what it says, with a server of the test's own as the outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..engine.upstream import upstream
from .harness import ROOT, Server
from .http_calls import call, value_of


def test_app_of_the_page_does_what_it_says(serve: Callable[..., Server], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "actions.md").read_text()
    [(name, code)] = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", page, re.DOTALL)
    functions = tmp_path / "app" / "functions"
    functions.mkdir(parents=True)
    with upstream() as outside:
        (functions / name).write_text(code.replace("https://rates.example", outside))
        server = serve(functions)
        assert call(server, "action", "rates:refresh", currency="usd")["value"] == 1.25
        assert value_of(server, "rates:known", currency="usd") == 1.25
        compared = call(server, "action", "rates:compare", currencies=["usd", "eur"])
        assert compared["value"] == [["usd", 1.25, 1.25], ["eur", 1.0, None]]
