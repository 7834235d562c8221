"""Make docs/images/waypoint.png from the running server: `python -m tests.end_to_end.screenshot`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .harness import HERE, ROOT, WAYPOINT, Server
from .http_calls import call

POSTS = [
    ("Ada", "Fushimi Inari, Kyoto", "Everyone stops at the first thousand gates. Keep walking.", ["Ines"]),
    (
        "Tomasz",
        "A bench above Lake Bled",
        "Go early, when the mist is still on the water and the bells are the only thing awake.",
        ["Ada", "Ines", "Maryam", "Noor", "Jun"],
    ),
    ("Ines", "Praia do Guincho", "Wind all day, and not one dull wave.", ["Ada", "Tomasz", "Jun"]),
]


def fill(server: Server) -> None:
    def person(name: str) -> str:
        return str(call(server, "mutation", "users:sign_in", name=name)["value"])

    for author, place, text, likers in POSTS:
        arguments = {"author": person(author), "place": place, "text": text}
        post = call(server, "mutation", "posts:create_post", **arguments)["value"]
        for name in likers:
            call(server, "mutation", "posts:like", post_id=post, user_id=person(name))


def main() -> None:
    node, chromium = shutil.which("node"), shutil.which("chromium")
    assert node, "Node.js is needed"
    assert chromium, "chromium is needed"
    picture = ROOT / "docs" / "images" / "waypoint.png"
    with tempfile.TemporaryDirectory() as data:
        server = Server(WAYPOINT / "functions", Path(data), ())
        server.start()
        try:
            fill(server)
            command: list[str | Path] = [node, HERE / "clients" / "screenshot.js", server.url, picture]
            subprocess.run(command, env={**os.environ, "CHROMIUM": chromium}, check=True, timeout=120)
        finally:
            server.process.stop()
            server.process.end()


if __name__ == "__main__":
    main()
