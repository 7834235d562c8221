"""Checking a whole store, and saying what was checked and what was not.

Checked, for the horizon and everything after it:

* the state row against the log's end; the file against its own length;
* the log: each row's digest, the chain of digests and timestamps, no gap from the horizon on;
* the catalog: every version unpacks and follows from the one before it;
* documents: checksum and canonical form of every version, the id it is under, versions of one
  document neither overlapping nor changing its creation time;
* log against documents: each logged write has its version with the checksum that the log
  recorded, each ended version the commit that ended it, and there are no others;
* indexes against documents: every version has exactly the entries it should have, for exactly
  the time it should have them; uniqueness of unique indexes.

Not checked: `NOT_CHECKED` in `report.py`.

The rules are checked in both directions by looking up one way and counting the other, so
memory does not grow with the data. A damaged file can end the process that maps it;
`verify` therefore works in a child process, and a child that dies is a finding.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from storage.checks import Check, OnProgress
from storage.environment import DATA_FILE, ReaderEnvironment, View, translated
from storage.errors import StoreError, StoreMissing
from storage.folder import MARKER_FILE, read_marker
from storage.report import Report, report_of


def verify(path: str | Path, on_progress: OnProgress | None = None) -> Report:
    """Check the store in a folder, which may be in use.

    Raises:
      StoreMissing: there is none.
    """
    folder = Path(path)
    if not (folder / MARKER_FILE).exists() and not (folder / DATA_FILE).exists():
        raise StoreMissing(f"there is no store in {folder}; check the path")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "storage.verify_process", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    report = None
    with child:
        for line in child.stdout:
            message = json.loads(line)
            if "stage" in message:
                if on_progress is not None:
                    on_progress(message["stage"], message["done"])
            else:
                report = report_of(message)
        errors = child.stderr.read().decode(errors="replace")
    if report is None:
        report = Report()
        code = child.returncode
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else errors.strip().rpartition("\n")[2]
        report.add(f"the file could not be read to its end: the check was ended by {ending}")
    return report


def verify_folder(folder: Path, on_progress: OnProgress) -> Report:
    """Check in this process."""
    report = Report()
    try:
        read_marker(folder)
        reader = ReaderEnvironment.open(folder, lock=True)
    except StoreError as error:
        report.add(str(error))
        return report
    try:
        with translated(folder), reader as view:
            verify_view(view, report, on_progress)
            size, needed = (folder / DATA_FILE).stat().st_size, reader.needed_bytes()
            if size < needed:
                # Everything that is in use has been read by now, so what is missing is free pages.
                report.checked["bytes of free pages beyond the end of the file"] = needed - size
    except StoreError as error:
        report.add(str(error))
    finally:
        reader.close()
    return report


def verify_view(view: View, report: Report, on_progress: OnProgress) -> None:
    report.head, report.horizon = view.state.head, view.state.horizon
    Check(view, report, on_progress).run()
