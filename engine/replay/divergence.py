"""How a run and its record differ, what kind of difference that is, and where it began (13.7).

The kinds, each with its cause:

    read       equal questions, another answer: the store shows another past, or lost some of it
    branch     equal answers, another next step: an input that nobody declared got in
    steps      all the same but for the steps: another runtime prices work differently
    platform   recorded on another platform, where functions of the C library may round differently
    code       the recorded code is not what it was, or does not load any more
    lost       it could not be run: its worker died
    gone       it could not be run: retention has passed its snapshot while the log was replayed

`platform` and `gone` are no faults.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from storage import Timestamp

Kind = Literal["read", "branch", "steps", "platform", "code", "lost", "gone"]
Aspect = Literal[
    "error",
    "result",
    "writes",
    "reads",
    "log lines",
    "nested calls",
    "steps",
    "counters",
    "observed",
    "trail",
]

MEANINGS: Final[dict[Kind, str]] = {
    "read": "it read something else: the store shows another past than the one recorded, or lost part of it",
    "branch": "it took another way after equal reads: something got in that is not in the record",
    "steps": "it took other steps and did the same: this runtime prices work differently",
    "platform": "it may differ: the record was made on another platform",
    "code": "the code is not the recorded code",
    "lost": "it could not be run",
    "gone": "it could not be run any more: its history was dropped while the log was replayed",
}


@attrs.frozen
class Place:
    """Where two runs part.

    Attributes:
      event: which read, write or nested call it was, from 1; 0 when all of them are equal.
      text: the event in words, as the replay had it.
      file, line: where the replay was in the source; empty and 0 if that is not known.
      is_after: the runs part after that event, not at it.
    """

    event: int
    text: str = ""
    file: str = ""
    line: int = 0
    is_after: bool = False

    def __str__(self) -> str:
        where = f" ({self.file}:{self.line})" if self.file else ""
        what = f" {self.text}" if self.text else ""
        if self.event == 0:
            return "after all reads and writes" if not self.is_after else "before the first read or write"
        return f"{'after' if self.is_after else 'at'} event {self.event}{what}{where}"

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen
class Difference:
    """One thing that came out differently, in words."""

    what: str
    recorded: str
    replayed: str

    def to_json(self) -> dict[str, str]:
        return {"what": self.what, "recorded": self.recorded, "replayed": self.replayed}


@attrs.frozen
class Divergence:
    kind: Kind
    aspects: tuple[Aspect, ...]  # all that differs
    place: Place | None
    differences: tuple[Difference, ...] = ()
    is_steady: bool = True  # False: run once more, it came out as recorded

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("platform", "gone")

    @property
    def meaning(self) -> str:
        return MEANINGS[self.kind]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "meaning": self.meaning,
            "differs": list(self.aspects),
            "place": None if self.place is None else self.place.to_json(),
            "differences": [difference.to_json() for difference in self.differences],
            "steady": self.is_steady,
        }


@attrs.frozen
class Replayed:
    """The outcome of one replay."""

    ts: Timestamp
    function: str
    steps: int
    divergence: Divergence | None  # None: a match in every respect

    def to_json(self) -> dict[str, Any]:
        return {
            "ts": str(self.ts),
            "function": self.function,
            "steps": self.steps,
            "matches": self.divergence is None,
            "divergence": None if self.divergence is None else self.divergence.to_json(),
        }
