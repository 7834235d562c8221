"""The app folder: which files are function modules, read as opaque bytes.

Beside them lies what the app declares of its token providers. `app-api.md` 1 decides what
counts. Nothing here looks inside a module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from engine.app_settings import FILE as SETTINGS_FILE
from engine.app_settings import SETTINGS_BYTES_MAX, InvalidSettings, read_settings
from engine.auth_config import CONFIG_BYTES_MAX, InvalidAuthConfig, expand
from engine.auth_config import FILE as AUTH_FILE
from engine.code import CODE_BYTES_MAX, MODULE_BYTES_MAX
from sandbox.frames import Module


class InvalidAppFolder(Exception):
    """The folder cannot be pushed; the text is one line that names the file and what to do."""


def find_functions(app: Path) -> Path:
    """Return the folder of modules: `app`, or `functions` in it if there are no modules beside that."""
    inner = app / "functions"
    modules = (path for path in app.glob("*.py") if is_module_file(app, path))
    if inner.is_dir() and all(_is_of_tests(path) for path in modules):
        return inner
    return app


def _is_of_tests(path: Path) -> bool:
    return path.name in ("conftest.py", "fuzz.py") or path.name.startswith("test_")


def read_app_folder(folder: Path) -> list[Module]:
    """Return the modules of the app in `folder`, sorted by path.

    Raises:
      InvalidAppFolder: no such folder, no modules, a name that no function path can hold, a file too large.
    """
    if not folder.is_dir():
        raise InvalidAppFolder(f"{folder} is not a folder; give the folder that holds your function modules")
    modules = [_read(folder, path) for path in sorted(_module_files(folder))]
    if not modules:
        raise InvalidAppFolder(f"{folder} holds no function modules; add one, for example posts.py")
    total = sum(len(module.source) for module in modules)
    if total > CODE_BYTES_MAX:
        raise InvalidAppFolder(
            f"{folder} holds {total:,} bytes of code, at most {CODE_BYTES_MAX:,} can be pushed"
        )
    return modules


def check_modules(modules: Sequence[Module]) -> None:
    """Raise `InvalidAppFolder` unless modules that came over the network could have come from a folder."""
    if not modules:
        raise InvalidAppFolder("there are no function modules to push")
    paths = [module.path for module in modules]
    if len(set(paths)) != len(paths):
        raise InvalidAppFolder("a module is there twice")
    for module in modules:
        parts = module.path.removesuffix(".py").split("/")
        if not module.path.endswith(".py") or not all(map(_can_be_named, parts)) or _is_private(parts):
            raise InvalidAppFolder(f"{module.path!r} cannot be the path of a function module")
        if len(module.source) > MODULE_BYTES_MAX:
            raise InvalidAppFolder(
                f"{module.path} has {len(module.source):,} bytes, a module has at most {MODULE_BYTES_MAX:,}"
            )
    total = sum(len(module.source) for module in modules)
    if total > CODE_BYTES_MAX:
        raise InvalidAppFolder(f"{total:,} bytes of code, at most {CODE_BYTES_MAX:,} can be pushed")


def read_auth(folder: Path, environment: Mapping[str, str]) -> bytes:
    """Return what the app declares of its token providers, ready to be pushed; empty if it declares none.

    Raises:
      InvalidAppFolder: the file cannot be read, or names a variable or a file that is not there.
    """
    root = folder.resolve()

    def read_file(name: str) -> bytes | None:
        if "\0" in name:
            return None
        path = (root / name).resolve()
        # What is not of the folder is not of the app, and may be a secret of this machine.
        if not path.is_relative_to(root) or not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(CONFIG_BYTES_MAX + 1)

    try:
        text = read_file(AUTH_FILE)
        return b"" if text is None else expand(text, environment, read_file)
    except OSError as error:
        raise InvalidAppFolder(f"{error.filename} cannot be read: {error.strerror}") from None
    except InvalidAuthConfig as error:
        raise InvalidAppFolder(str(error)) from None


def read_app_settings(folder: Path) -> bytes:
    """Return what the app's `tidewell.toml` says, ready to be pushed; empty if there is none.

    Raises:
      InvalidAppFolder: it cannot be read, or is wrong.
    """
    try:
        with (folder / SETTINGS_FILE).open("rb") as file:
            return read_settings(file.read(SETTINGS_BYTES_MAX + 1))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InvalidAppFolder(f"{error.filename} cannot be read: {error.strerror}") from None
    except InvalidSettings as error:
        raise InvalidAppFolder(str(error)) from None


def is_settings_file(folder: Path, path: Path) -> bool:
    return path == folder / SETTINGS_FILE


def is_auth_file(folder: Path, path: Path) -> bool:
    """Whether a file below `folder` may bear on token providers: their declaration, or a key set."""
    return path.suffix == ".json" and not _is_private(path.relative_to(folder).parts)


def is_module_file(folder: Path, path: Path) -> bool:
    """Whether a file below `folder` is pushed: Python, not hidden, not private, not a test."""
    parts = path.relative_to(folder).parts
    return (
        path.suffix == ".py"
        and not _is_private(parts)
        and "tests" not in parts[:-1]
        and not path.name.endswith(".test.py")
    )


def may_be_folder(folder: Path, path: Path) -> bool:
    """Whether something changed that may have been a folder of modules: moved away, it names no file."""
    return not path.suffix and not _is_private(path.relative_to(folder).parts)


def _can_be_named(part: str) -> bool:
    return part.isidentifier() and part.isascii()


def _is_private(parts: Iterable[str]) -> bool:
    return any(part.startswith(("_", ".")) for part in parts)


def _module_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        if is_module_file(folder, path) and path.is_file():
            yield path


def _read(folder: Path, path: Path) -> Module:
    relative = path.relative_to(folder)
    for part in (*relative.parts[:-1], relative.stem):
        if not _can_be_named(part):
            raise InvalidAppFolder(
                f"{path}: {part!r} cannot be part of a function's path; use letters, digits and _"
            )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InvalidAppFolder(f"{path} cannot be read: {error.strerror}") from None
    if len(source) > MODULE_BYTES_MAX:
        raise InvalidAppFolder(f"{path} has {len(source):,} bytes, a module has at most {MODULE_BYTES_MAX:,}")
    return Module(path=relative.as_posix(), source=source)
