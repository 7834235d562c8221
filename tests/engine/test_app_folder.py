"""Which files of a folder are pushed, and what is said about the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.app_folder import InvalidAppFolder, find_functions, is_module_file, may_be_folder, read_app_folder
from engine.code import CODE_BYTES_MAX, MODULE_BYTES_MAX


def fill(folder: Path, *names: str, size: int = 0) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"#" * size)
    return folder


def test_a_project_means_the_folder_of_its_functions(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    fill(tmp_path, "_private.py", "fuzz.py", "test_it.py")
    assert find_functions(tmp_path) == functions
    assert find_functions(functions) == functions
    (tmp_path / "posts.py").touch()
    assert find_functions(tmp_path) == tmp_path  # an app with a folder of that name


def test_modules_come_sorted_with_their_source_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path, "schema.py", "admin/reports.py")
    (tmp_path / "a.py").write_bytes(b"\xff\r\n")
    modules = read_app_folder(tmp_path)
    assert [module.path for module in modules] == ["a.py", "admin/reports.py", "schema.py"]
    assert modules[0].source == b"\xff\r\n"


@pytest.mark.parametrize(
    "name",
    [
        "_draft.py",
        ".hidden.py",
        "_lib/a.py",
        ".git/a.py",
        "__pycache__/a.py",
        "tests/a.py",
        "a.test.py",
        "a.txt",
    ],
)
def test_private_files_tests_and_others_are_left_out(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "posts.py", name)
    assert [module.path for module in read_app_folder(tmp_path)] == ["posts.py"]
    assert not is_module_file(tmp_path, tmp_path / name)


@pytest.mark.parametrize("name", ["my-posts.py", "über.py", "1st.py", "my folder/a.py", "a.b.py"])
def test_name_that_no_path_can_hold_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidAppFolder, match="cannot be part of a function's path"):
        read_app_folder(fill(tmp_path, name))


def test_missing_and_empty_folders_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidAppFolder, match="is not a folder; give"):
        read_app_folder(tmp_path / "nowhere")
    with pytest.raises(InvalidAppFolder, match="holds no function modules; add one"):
        read_app_folder(tmp_path)


def test_limits_name_the_file_or_the_folder(tmp_path: Path) -> None:
    fill(tmp_path, "big.py", size=MODULE_BYTES_MAX)
    assert len(read_app_folder(tmp_path)) == 1
    fill(tmp_path, "too_big.py", size=MODULE_BYTES_MAX + 1)
    with pytest.raises(InvalidAppFolder, match=r"too_big\.py has 262,145 bytes"):
        read_app_folder(tmp_path)


def test_all_modules_together_have_a_limit(tmp_path: Path) -> None:
    names = [f"m{number}.py" for number in range(CODE_BYTES_MAX // MODULE_BYTES_MAX + 1)]
    with pytest.raises(InvalidAppFolder, match="bytes of code"):
        read_app_folder(fill(tmp_path, *names, size=MODULE_BYTES_MAX))


def test_file_that_is_gone_again_is_no_crash(tmp_path: Path) -> None:
    fill(tmp_path, "posts.py")
    os.symlink(tmp_path / "gone.py", tmp_path / "link.py")
    assert [module.path for module in read_app_folder(tmp_path)] == ["posts.py"]


def test_a_folder_that_moves_is_noticed_and_a_hidden_one_is_not(tmp_path: Path) -> None:
    assert may_be_folder(tmp_path, tmp_path / "admin")
    assert not may_be_folder(tmp_path, tmp_path / ".git" / "index")
    assert not may_be_folder(tmp_path, tmp_path / "notes.txt")
