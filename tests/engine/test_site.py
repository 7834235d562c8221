"""Static pages: what is served, under which type, and what never is."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.exchange import Refused, Request, Response
from engine.site import StaticSite


@pytest.fixture
def site(tmp_path: Path) -> StaticSite:
    root = tmp_path / "page"
    (root / "sub").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "empty").mkdir()
    (root / "index.html").write_text("<h1>home</h1>")
    (root / "app.js").write_text("export {}")
    (root / "style.css").write_text("body {}")
    (root / "pic.svg").write_text("<svg/>")
    (root / "data").write_bytes(b"\x00\x01")
    (root / "with space.txt").write_text("spaced")
    (root / "über.txt").write_text("umlaut")
    (root / "sub" / "index.html").write_text("<h1>sub</h1>")
    (root / ".env").write_text("SECRET=1")
    (root / ".git" / "config").write_text("secret")
    (tmp_path / "outside.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "up").symlink_to(tmp_path)
    client = tmp_path / "tidewell.js"
    client.write_text("// the client")
    return StaticSite(root, {"/tidewell.js": client})


async def get(site: StaticSite, path: str, *headers: tuple[bytes, bytes], method: str = "GET") -> Response:
    try:
        return await site.respond(Request(method, path, "", list(headers)))
    except Refused as refused:
        return refused.response()


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/", b"text/html; charset=utf-8", b"<h1>home</h1>"),
        ("/index.html", b"text/html; charset=utf-8", b"<h1>home</h1>"),
        ("/app.js", b"text/javascript; charset=utf-8", b"export {}"),
        ("/style.css", b"text/css; charset=utf-8", b"body {}"),
        ("/pic.svg", b"image/svg+xml", b"<svg/>"),
        ("/data", b"application/octet-stream", b"\x00\x01"),
        ("/with%20space.txt", b"text/plain; charset=utf-8", b"spaced"),
        ("/%C3%BCber.txt", b"text/plain; charset=utf-8", b"umlaut"),
        ("/sub/", b"text/html; charset=utf-8", b"<h1>sub</h1>"),
        ("/tidewell.js", b"text/javascript; charset=utf-8", b"// the client"),
    ],
)
async def test_file_is_served_under_its_type(
    site: StaticSite, path: str, content_type: bytes, body: bytes
) -> None:
    response = await get(site, path)
    assert (response.status, response.content_type, response.body) == (200, content_type, body)


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/sub/../../outside.txt",
        "/sub/%2e%2e/%2e%2e/outside.txt",
        "/..%5coutside.txt",
        "/%00",
        "/index.html%00.txt",
        "/%ff",
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/link.txt",
        "/up/outside.txt",
        "/up/page/index.html/..",
        "/empty/",
        "/index.html/",
        "//etc/passwd",
        "/" + "x" * 5000,
    ],
)
async def test_path_that_is_no_file_of_the_page_is_404(site: StaticSite, path: str) -> None:
    response = await get(site, path)
    assert response.status == 404
    assert b"secret" not in response.body


async def test_folder_without_a_slash_is_sent_to_the_one_with_it(site: StaticSite) -> None:
    response = await get(site, "/sub")
    assert response.status == 308
    assert (b"location", b"/sub/") in response.headers


async def test_unchanged_file_is_not_sent_again(site: StaticSite) -> None:
    first = await get(site, "/app.js")
    tag = dict(first.headers)[b"etag"]
    again = await get(site, "/app.js", (b"if-none-match", tag))
    assert (again.status, again.body) == (304, b"")
    assert site.folder is not None
    (site.folder / "app.js").write_text("export { changed }")
    changed = await get(site, "/app.js", (b"if-none-match", tag))
    assert (changed.status, changed.body) == (200, b"export { changed }")


async def test_only_get_and_head_are_taken(site: StaticSite) -> None:
    assert (await get(site, "/", method="HEAD")).status == 200
    assert (await get(site, "/", method="POST")).status == 405


async def test_site_without_a_folder_has_its_files_alone(site: StaticSite) -> None:
    bare = StaticSite(None, site.files)
    assert (await get(bare, "/tidewell.js")).status == 200
    assert (await get(bare, "/")).status == 404
