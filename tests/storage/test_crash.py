"""A writer may die at any moment, and nothing that it acknowledged is lost. See `crash.py`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

# The kernel keeps what a killed process wrote, and lost power is simulated; so memory will do.
MEMORY = Path("/dev/shm")
KILLS = int(os.environ.get("TIDEWELL_KILLS", "500"))
LOSSES = 50


def test_no_kill_at_any_moment_loses_or_halves_a_commit(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    script = Path(__file__).parent / "crash.py"
    place = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(prefix="crash-", dir=place) as folder:
        result = subprocess.run(
            [sys.executable, script, f"{folder}/store", str(KILLS), str(LOSSES), str(seed)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{KILLS} kills, {LOSSES} losses of power" in result.stdout
    assert result.stdout.endswith("none lost\n")
