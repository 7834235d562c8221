"""`tidewell codegen`: real apps, and the TypeScript compiler on what was written for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import install_packages
from .harness import APPS, DEADLINE_S, WAYPOINT

WEB = WAYPOINT / "web"
FILES = ("api.js", "api.d.ts", "dataModel.d.ts")

TSCONFIG = """\
{"compilerOptions": {"target": "ES2022", "lib": ["ES2023", "DOM"], "module": "ESNext",
 "moduleResolution": "bundler", "types": [], "strict": true, "noEmit": true}, "include": ["*.ts"]}
"""

# A front end in a few lines: each kind of client, arguments, results, indexes, documents.
GOOD = """\
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import type { FunctionArgs, FunctionReturnType, NamedIndex, NamedTableInfo } from "convex/server";
import { api, internal } from "./generated/api";
import type { DataModel, Doc, Id, TableNames } from "./generated/dataModel";

type Post = FunctionReturnType<typeof api.posts.list_posts>[number];
type Info = NamedTableInfo<DataModel, "posts">;
const fields: NamedIndex<Info, "by_place"> = ["place", "_creationTime"];
const table: TableNames = "letters";
const letter = (user: Id<"users">, _id: Id<"letters">): Doc<"letters"> =>
  ({ _id, _creationTime: 1, user, text: "hello" });

async function main(client: ConvexClient, http: ConvexHttpClient) {
  const user: Id<"users"> = await client.mutation(api.users.sign_in, { name: "Ada" });
  client.onUpdate(api.posts.list_posts, {}, (posts) => posts.map((post: Post) => post.author_name.length));
  client.onUpdate(api.posts.list_posts, { viewer: user, limit: 3 }, (posts) => posts[0].liked === true);
  const writing = { author: user, place: "a", text: "b" };
  const post: Id<"posts"> = await http.mutation(api.posts.create_post, writing);
  const likes: number = await client.mutation(api.posts.like, { post_id: post, user_id: user });
  const text: string = await client.action(api.welcome.send_welcome, { user_id: user });
  const name: string | undefined = (await http.query(api.users.get_user, { user_id: user }))?.name;
  const news: FunctionArgs<typeof internal.welcome.gather_news> = { user_id: user };
  return { likes, text, name, news, fields, table, letter };
}
void main;
"""

WRONG = {
    "a number for text": "client.mutation(api.users.sign_in, { name: 3 })",
    "a missing argument": "client.mutation(api.users.sign_in, {})",
    "no arguments": "client.mutation(api.users.sign_in)",
    "an extra argument": 'client.mutation(api.users.sign_in, { name: "a", age: 3 })',
    "plain text for an id": 'client.query(api.users.get_user, { user_id: "j57" })',
    "an id of another table": "client.query(api.users.get_user, { user_id: post })",
    "a function that is not there": "client.query(api.posts.lits_posts, {})",
    "a module that is not there": "client.query(api.postings.list_posts, {})",
    "a mutation as a query": 'client.query(api.users.sign_in, { name: "a" })',
    "an internal function": "client.query(internal.welcome.gather_news, { user_id: user })",
    "a field that the result lacks": "client.query(api.posts.list_posts, {}).then((p) => p[0].dislikes)",
    "a table that is not there": "null as unknown as Doc<'postings'>",
    "an id of a table that is not there": "null as unknown as Id<'postings'>",
}


def codegen(app: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", "codegen", str(app), "--ts", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


@pytest.fixture
def compile_ts(node: str, tmp_path: Path) -> Callable[[str], list[str]]:
    """Compile a front end of Waypoint with `tsc --strict`; gives the compiler's complaints."""
    install_packages(WEB)
    (tmp_path / "node_modules").symlink_to(WEB / "node_modules")
    (tmp_path / "tsconfig.json").write_text(TSCONFIG)
    done = codegen(WAYPOINT / "functions", tmp_path / "generated")
    assert done.returncode == 0, done.stderr

    def run(source: str) -> list[str]:
        (tmp_path / "main.ts").write_text(source)
        command = [node, str(WEB / "node_modules" / "typescript" / "bin" / "tsc"), "--pretty", "false"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S)
        assert (done.returncode == 0) == (not done.stdout), done.stdout + done.stderr
        return done.stdout.splitlines()

    return run


def test_a_strict_compiler_accepts_a_front_end_that_uses_the_files(
    compile_ts: Callable[[str], list[str]],
) -> None:
    assert compile_ts(GOOD) == []


def test_a_strict_compiler_refuses_each_wrong_use(compile_ts: Callable[[str], list[str]]) -> None:
    start = GOOD.count("\n") + 2
    head = "export function wrong(client: ConvexClient, user: Id<'users'>, post: Id<'posts'>) {\n"
    lines = "".join(f"  {expression};\n" for expression in WRONG.values())
    complaints = compile_ts(f"{GOOD}{head}{lines}  return [user, post];\n}}\n")
    for number, what in enumerate(WRONG, start):
        assert any(complaint.startswith(f"main.ts({number},") for complaint in complaints), what
    last = start + len(WRONG)
    assert not [line for line in complaints if line.startswith(f"main.ts({last},")], complaints


def test_what_is_generated_for_the_react_front_end_is_up_to_date() -> None:
    done = codegen(WAYPOINT / "functions", WEB / "src" / "generated", "--check")
    assert done.returncode == 0, done.stderr


def test_the_react_front_end_passes_its_own_type_check(node: str) -> None:
    install_packages(WEB)
    command = [node, "node_modules/typescript/bin/tsc"]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout


def test_only_files_that_change_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "generated"
    first = codegen(WAYPOINT / "functions", folder)
    assert (first.returncode, first.stdout) == (0, f"Wrote {', '.join(FILES)} to {folder}.\n"), first.stderr
    (folder / "api.d.ts").write_text("// somebody's edit\n")
    before = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    inodes = {name: (folder / name).stat().st_ino for name in FILES}

    checked = codegen(WAYPOINT / "functions", folder, "--check")
    assert (checked.returncode, checked.stdout) == (1, "")
    assert checked.stderr.startswith(f"Error: api.d.ts in {folder} would change; run `tidewell codegen ")
    assert (folder / "api.d.ts").read_text() == "// somebody's edit\n"

    second = codegen(WAYPOINT / "functions", folder)
    assert second.stdout == f"Wrote api.d.ts to {folder}.\n"
    for name in ("api.js", "dataModel.d.ts"):
        status = (folder / name).stat()
        assert (status.st_mtime_ns, status.st_ino) == (before[name], inodes[name])
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert codegen(WAYPOINT / "functions", folder).stdout == f"{folder} is up to date.\n"


def test_check_writes_nothing_at_all(tmp_path: Path) -> None:
    assert codegen(APPS / "values", tmp_path / "generated", "--check").returncode == 1
    assert not list(tmp_path.iterdir())


def test_a_broken_app_gets_the_errors_of_a_push(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "posts.py").write_text("from tidewell import query\n\n@query\ndef broken(ctx:\n")
    (app / "users.py").write_text("import os\n")
    done = codegen(app, tmp_path / "generated")
    assert done.returncode == 1
    assert "posts.py:4" in done.stderr
    assert "users.py:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize(
    ("app", "folder", "words"),
    [("nowhere", "out", "nowhere is not a folder"), (".", "out", "holds no function modules")],
)
def test_what_cannot_be_done_is_one_line(app: str, folder: str, words: str, tmp_path: Path) -> None:
    done = codegen(tmp_path / app, tmp_path / folder)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = codegen(APPS / "values", tmp_path / "taken")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path / 'taken'}")
    assert len(done.stderr.splitlines()) == 1
