"""A writer may die at any moment, and nothing that it acknowledged is lost. See `crash.py`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

KILLS = int(os.environ.get("TIDEWELL_KILLS", "500"))
LOSSES = 50


def test_no_kill_at_any_moment_loses_or_halves_a_commit(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    script = Path(__file__).parent / "crash.py"
    result = subprocess.run(
        [sys.executable, script, tmp_path / "store", str(KILLS), str(LOSSES), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{KILLS} kills, {LOSSES} losses of power" in result.stdout
    assert result.stdout.endswith("none lost\n")
