"""A process that hangs ends by itself and says where it hung."""

from __future__ import annotations

import subprocess
import sys

HANGS = """
import threading
from fuzz.watchdog import watched

def wait_for_ever():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

with watched(0.2):
    wait_for_ever()
"""


def test_a_hang_ends_the_process_and_names_the_line() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "in wait_for_ever" in ended.stderr


def test_what_ends_in_time_is_left_alone() -> None:
    source = "from fuzz.watchdog import watched\nwith watched(60):\n    print('done')\n"
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
