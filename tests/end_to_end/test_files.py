"""Files: uploaded to URLs that functions make, kept with the data, downloaded from URLs they give out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli import main

from .conftest import shared
from .harness import APPS, DEADLINE_S, ROOT, Server
from .http_calls import ask


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from shared(APPS / "site", tmp_path_factory)


def call(server: Server, kind: str, name: str, **args: Any) -> Any:
    body = json.dumps({"path": f"pictures:{name}", "args": args})
    told = ask("POST", f"{server.url}/api/{kind}", body).json
    if told["status"] == "error":
        raise AssertionError(told["errorMessage"])
    return told["value"]


def upload(server: Server, data: bytes, **headers: str) -> str:
    answer = ask("POST", call(server, "mutation", "upload_url"), data, **headers)
    assert answer.status == 200, answer
    stored: str = answer.json["storageId"]
    return stored


def test_what_was_uploaded_is_downloaded(server: Server) -> None:
    data = bytes(range(256)) * 10_000
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    stored = upload(server, data, Content_Type="image/png", Digest=f"sha-256={digest}")
    shown = call(server, "query", "show", picture=stored)
    assert shown["url"].startswith(f"{server.url}/api/storage/")
    assert stored not in shown["url"]
    assert shown["row"].pop("_creationTime") > 0
    assert shown["row"] == {"_id": stored, "contentType": "image/png", "size": 2_560_000, "sha256": digest}

    answer = ask("GET", shown["url"], Origin="https://page.example")
    assert (answer.status, answer.body) == (200, data)
    assert dict(answer.headers) | {
        "content-type": "image/png",
        "content-length": "2560000",
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=2592000",
        "digest": f"sha-256={digest}",
        "access-control-allow-origin": "https://page.example",
    } == dict(answer.headers)
    head = ask("HEAD", shown["url"])
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "2560000")


@pytest.mark.parametrize(
    ("wanted", "status", "part", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-1,4-5", 416, None, "bytes */10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=5-2", 416, None, "bytes */10"),
        ("bytes=-", 416, None, "bytes */10"),
        ("bytes=a-b", 416, None, "bytes */10"),
        ("rows=1-2", 206, b"0123456789", "bytes 0-9/10"),
    ],
)
def test_one_range_of_a_file_can_be_asked_for(
    server: Server, wanted: str, status: int, part: bytes | None, told: str
) -> None:
    url = call(server, "query", "show", picture=upload(server, b"0123456789"))["url"]
    answer = ask("GET", url, Range=wanted)
    assert answer.status == status
    assert answer.headers["content-range"] == told
    assert answer.headers["digest"] is None
    assert part is None or answer.body == part


def test_upload_without_a_good_token_is_refused(server: Server) -> None:
    url = call(server, "mutation", "upload_url")
    for wrong in (url[:-1] + ("A" if url[-1] != "A" else "B"), url.partition("?")[0], url + "x"):
        answer = ask("POST", wrong, b"data", Origin="https://page.example")
        assert (answer.status, answer.json["code"]) == (401, "InvalidUploadUrl")
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
    preflight = ask("OPTIONS", url, Origin="https://page.example", Access_Control_Request_Method="POST")
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"


def test_upload_that_is_not_what_it_says_leaves_nothing(server: Server) -> None:
    before = call(server, "query", "rows")
    url = call(server, "mutation", "upload_url")
    answer = ask("POST", url, b"data", Digest=f"sha-256={base64.b64encode(bytes(32)).decode()}")
    assert (answer.status, answer.json["code"]) == (400, "FileRefused")
    assert ask("POST", url, b"data", Content_Type="a" * 300).status == 400
    assert call(server, "query", "rows") == before
    assert not list((server.data / "files").glob("incoming-*"))


def test_deletion_goes_with_its_mutation(server: Server) -> None:
    stored = upload(server, b"data")
    url = call(server, "query", "show", picture=stored)["url"]
    with pytest.raises(AssertionError, match="changed my mind"):
        call(server, "mutation", "remove", picture=stored, fails=True)
    assert ask("GET", url).body == b"data"
    call(server, "mutation", "remove", picture=stored)
    assert ask("GET", url).status == 404
    assert call(server, "query", "show", picture=stored) == {"url": None, "row": None}
    with pytest.raises(AssertionError, match="there is no file"):
        call(server, "mutation", "remove", picture=stored)


def test_actions_store_and_read(server: Server) -> None:
    data = b"0" * 800_000 + b"1" * 800_000
    stored = call(server, "action", "make", size=1_600_000, pieces=2)
    told = call(server, "action", "read", picture=stored)
    assert told["size"] == 1_600_000
    assert (told["pieces"], told["rest"]) == (["MDAw", "MDA="], 1_599_995)
    assert told["row"]["sha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert told["row"]["contentType"] == "text/plain"
    assert ask("GET", told["url"]).body == data
    assert ask("POST", told["upload"], b"x").status == 200
    with pytest.raises(AssertionError, match="sha256 is"):
        call(server, "action", "make", size=10, sha256="0" * 64)
    call(server, "action", "make", size=10, sha256=hashlib.sha256(b"0" * 10).hexdigest())
    call(server, "action", "drop", picture=stored)
    assert call(server, "action", "read", picture=stored) == {"gone": True}
    with pytest.raises(AssertionError, match="there is no file"):
        call(server, "action", "drop", picture=stored)


def test_what_a_kind_cannot_do_says_where_it_is_done(server: Server) -> None:
    with pytest.raises(AssertionError, match=r"a query cannot use ctx\.storage\.generate_upload_url"):
        call(server, "query", "wrong")
    with pytest.raises(AssertionError, match="ArgumentValidationError"):
        call(server, "query", "show", picture="j57000820c20a1g7104gm2rc1m70ynr8")


@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-0000-0000-000000000000", "../admin-key", ""])
def test_made_up_urls_lead_nowhere(server: Server, name: str) -> None:
    assert ask("GET", f"{server.url}/api/storage/{name}").status == 404


def test_files_survive_a_crash_and_what_has_no_row_is_swept(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(APPS / "site")
    kept, gone = upload(server, b"kept"), upload(server, b"gone")
    url = call(server, "query", "show", picture=kept)["url"]
    call(server, "mutation", "remove", picture=gone)
    folder = server.data / "files"
    assert len(list(folder.iterdir())) == 2, "what is in a file goes after its row"
    (folder / "incoming-0000").write_bytes(b"half")
    server.kill()
    server.start()
    assert ask("GET", url).body == b"kept"
    # The sweep comes before the first call is served, or soon after it.
    deadline = time.monotonic() + DEADLINE_S
    while len(list(folder.iterdir())) != 1:
        assert time.monotonic() < deadline, list(folder.iterdir())


def test_backup_takes_files_along(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(APPS / "site")
    stored = upload(server, b"kept")
    backup = tmp_path / "backup"
    done = CliRunner().invoke(main, ["backup", str(backup), "--data", str(server.data)])
    assert done.exit_code == 0, done.output
    call(server, "mutation", "remove", picture=stored)
    copy = serve(APPS / "site", data=backup)
    assert ask("GET", call(copy, "query", "show", picture=stored)["url"]).body == b"kept"


def test_app_of_the_guide_keeps_pictures(serve: Callable[..., Server], tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "files.md").read_text()
    functions = tmp_path / "app" / "functions"
    functions.mkdir(parents=True)
    for name, code in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", guide, re.DOTALL):
        (functions / name).write_text(code)
    server = serve(functions)
    stored = upload(server, b"picture", Content_Type="image/png")
    call(server, "mutation", "add", picture=stored, title="a picture")
    [shown] = call(server, "query", "gallery")
    assert ask("GET", shown["url"]).body == b"picture"
    call(server, "mutation", "remove", picture=stored)
    assert call(server, "query", "gallery")[0]["url"] is None
