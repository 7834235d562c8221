"""Run the first command of the README on a fresh clone, and talk to what it serves."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    command = re.search(r"```sh\n(.+?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert command, "README.md has no command"
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        words = shlex.split(command[1].splitlines()[-1])
        server = subprocess.Popen(
            [*words, "--port", "0"], cwd=clone, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert server.stdout
        try:
            url = find_url(server.stdout)
            with urllib.request.urlopen(url + "/", timeout=10) as page:
                assert b"<html" in page.read().lower(), "the page is not there"
            body = json.dumps({"path": "posts:list_posts", "args": {}, "format": "json"}).encode()
            request = urllib.request.Request(
                url + "/api/query", data=body, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as reply:
                answer = json.load(reply)
            assert answer["status"] == "success", answer
        finally:
            os.killpg(server.pid, signal.SIGINT)
            status = server.wait(timeout=30)
    assert status == 0, f"the server ended with status {status}"
    print("the first command starts, answers and stops")


def find_url(lines: object) -> str:
    for line in lines:  # type: ignore[attr-defined]  # a text stream
        sys.stdout.write(line)
        found = re.search(r"serving .* at (http://\S+)", line)
        if found:
            return found[1]
    raise AssertionError("the server ended without serving")


main()
