"""The engine carries tenant code as bytes: it never compiles, imports or unmarshals any (G8, L0).

Shown twice: an audit hook watches a process in the engine's role while it loads
and runs an app in a pool, and the source of everything that shares a process
with the engine is searched for the calls that could.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import json, os, sys, tempfile
import trio
from pathlib import Path
from sandbox.frames import Call, Load, Loaded, LoadFailed, Module, Ran, Run
from sandbox.pool import WorkerPool
from storage import Store
from tidewell.values import pack, unpack

MARK = "tenant_mark_"
SOURCE = (
    "from tidewell import AppError, query\\n"
    "class tenant_mark_Error(AppError):\\n    pass\\n"
    "@query\\ndef tenant_mark_good(ctx):\\n    return 'tenant_mark_value'\\n"
    "@query\\ndef tenant_mark_bad(ctx):\\n    raise ValueError('tenant_mark_text')\\n"
)
seen = []
ALWAYS = ("marshal.loads", "marshal.load", "pickle.find_class", "code.__new__", "function.__new__")

def hook(event, arguments):
    if not watching:
        return
    if event in ("compile", "exec", "import"):
        if MARK in repr(arguments):
            seen.append(f"{event} {arguments!r}"[:200])
    elif event in ALWAYS:
        seen.append(event)

def run(function):
    call = Call(execution="e", kind="query", path=f"app:{function}", args=pack({}), identity=pack(None),
                seed=bytes(32), now_ms=0)
    return call

async def main():
    global watching
    with tempfile.TemporaryDirectory() as folder, Store.open(folder + "/store") as store:
        argument = json.dumps({"store": str(store.path), "cursor_key": "00" * 32})
        pool = WorkerPool(entry="engine.guest:serve_guest", argument=argument, size=1)
        async with pool.running():
            for code, text in (("good", SOURCE), ("broken", SOURCE + "def tenant_mark_(:\\n")):
                async with pool.lease(code) as worker:
                    modules = [Module(path="app.py", source=text.encode())]
                    watching = True
                    reply = await worker.request(
                        Load(code=code, modules=modules, analyse=True, now_ms=0, seed=bytes(32)), cpu_s=5.0)
                    watching = False
                    results.append(type(reply).__name__)
                    if not isinstance(reply, Loaded):
                        continue
                    with store.pin() as pin:
                        frame = Run(code=code, begin_ts=store.head_ts, txn_id=pin.txn_id, overlay=[],
                                    calls=[run("tenant_mark_good"), run("tenant_mark_bad")])
                        watching = True
                        reply = await worker.request(frame)
                        watching = False
                    results.extend(outcome.kind for outcome in reply.outcomes)

watching = False
results = []
sys.addaudithook(hook)
watching = True
compile("tenant_mark_canary = 1", "x", "exec")  # the hook can see
watching = False
assert seen, "the hook sees nothing"
seen.clear()
trio.run(main)
print(json.dumps({"results": results, "seen": seen, "modules": sorted(sys.modules)}))
"""


def test_engine_compiles_and_imports_nothing_of_a_tenant() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["results"] == ["Loaded", "value", "function", "LoadFailed"]
    assert told["seen"] == []
    assert "RestrictedPython" not in told["modules"], "the language layer is the worker's"
    assert "sandbox.executor" not in told["modules"]


# Names that turn bytes or text into code or objects.
CODE_MAKERS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"pickle", "marshal", "shelve", "dill", "ast", "runpy", "code", "codeop"}


def engine_files() -> list[Path]:
    return sorted([*ROOT.glob("engine/**/*.py"), *ROOT.glob("sandbox/pool/*.py"), *ROOT.glob("storage/*.py")])


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_of_the_engine_has_no_way_to_run_bytes(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CODE_MAKERS:
            found.append(f"line {node.lineno}: {node.func.id}()")
        elif isinstance(node, ast.Import):
            found += [
                f"line {node.lineno}: import {each.name}" for each in node.names if each.name in LOADERS
            ]
        elif isinstance(node, ast.ImportFrom) and node.module in LOADERS:
            found.append(f"line {node.lineno}: from {node.module}")
    assert not found
