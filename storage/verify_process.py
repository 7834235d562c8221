"""The child process of `verify`: `python -m storage.verify_process FOLDER`.

Writes JSON lines: progress while it works, the report at the end. If the file is so
damaged that mapping it ends the process, the missing report is what the parent reports.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from storage.verify import verify_folder


def main() -> None:
    def tell(stage: str, done: int) -> None:
        sys.stdout.write(json.dumps({"stage": stage, "done": done}) + "\n")
        sys.stdout.flush()

    report = verify_folder(Path(sys.argv[1]), tell)
    sys.stdout.write(json.dumps(report.to_json()) + "\n")


if __name__ == "__main__":
    main()
