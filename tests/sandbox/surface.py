"""Every public attribute of every type a guest can obtain, as data.

A new interpreter that adds an attribute to a builtin type adds it to the reach of
every guest. `python tests/sandbox/surface.py --write` records the surface of the
running version in `surface/`; a test compares, and somebody reviews the difference.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "surface"
RECORD = FOLDER / f"{sys.version_info.major}.{sys.version_info.minor}.json"


def reachable_types() -> dict[str, type]:
    def generator() -> Any:
        yield 1

    def function() -> None:
        pass

    samples: list[Any] = [
        None, True, 1, 1.5, "", b"", [], (), {}, range(1), Ellipsis, NotImplemented,
        {}.keys(), {}.values(), {}.items(), generator(), function, [].append, len, str.upper,
        "".upper, print, types.MethodType(function, 1), iter([]), 1 .__init__,
    ]  # fmt: skip
    found = {type(sample).__name__: type(sample) for sample in samples}
    found["union of classes"] = types.UnionType
    from sandbox import policy
    from sandbox.lazy import LAZY_TYPES

    found |= {kind.__name__: kind for kind in LAZY_TYPES}
    import builtins

    found |= {name: getattr(builtins, name) for name in policy.BUILTIN_EXCEPTIONS}
    return found


def host_types() -> dict[str, type]:
    import sandbox.guest
    from sandbox.host import HostObject

    assert sandbox.guest

    def below(kind: type) -> list[type]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    # What `namedtuple` has made for some guest shows what `NamedTuple` does, and lives as long as it likes.
    return {
        f"host {kind.__module__}.{kind.__qualname__}": kind
        for kind in below(HostObject)
        if kind.__module__ != "sandbox.facades.named" or kind in vars(sys.modules[kind.__module__]).values()
    }


def surface() -> dict[str, list[str]]:
    from sandbox import policy

    report: dict[str, list[str]] = {}
    for name, kind in {**reachable_types(), **host_types()}.items():
        if name.startswith("host ") and ".facades." not in name and "sandbox." not in name:
            continue
        public = [attribute for attribute in dir(kind) if not attribute.startswith("_")]
        report[name] = [
            attribute
            + (" denied" if attribute in policy.DENIED_ATTRIBUTES else "")
            + (" costed" if attribute in policy.COSTED_ATTRIBUTES else "")
            for attribute in sorted(public)
        ]
    return dict(sorted(report.items()))


def language_surface() -> dict[str, list[str]]:
    """Only what the language side defines: tests and the loader add host types of their own."""
    known = (
        "sandbox.facades.",
        "sandbox.sets.",
        "sandbox.faces.",
        "sandbox.builtins.",
        "sandbox.guest.",
        "sandbox.host.",
    )
    return {
        name: attributes
        for name, attributes in surface().items()
        if not name.startswith("host ") or name.removeprefix("host ").startswith(known)
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    text = json.dumps(language_surface(), indent=1) + "\n"
    if "--write" in sys.argv[1:]:
        FOLDER.mkdir(exist_ok=True)
        RECORD.write_text(text)
    else:
        print(text)
