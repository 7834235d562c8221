"""Puts the harness of these tests on the path, and the entries that its zygotes import."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
for _folder in (_HERE, _HERE / "entries", _HERE / "pool"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))
