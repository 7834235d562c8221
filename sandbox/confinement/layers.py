"""The layers of the wall: their order, which are mandatory, and what to report.

Asked by the worker, once, after its channel is its only descriptor and before a
tenant's byte has reached it. The order matters: the database is opened while
files can still be opened, limits are relative to what is mapped by then, a
change of ids undoes "die with the parent", Landlock and the filter need
no-new-privileges, and nothing but computing works after the filter.

A mandatory layer that cannot be put in force ends the worker: there is no
downgrade. Every other layer is put in force wherever it can be, and a
deployment may declare any of them mandatory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import attrs

from sandbox.confinement import landlock, limits, namespaces, process, seccomp, system

# Every layer in the order of its entry, and what it does in a few words.
LAYERS: Final = {
    "descriptors": "the channel is the only descriptor",
    "limits": "memory, CPU, processes, files and queues are limited",
    "writable_code": "no page is both writable and executable",
    "namespaces": "own mount, process, network, IPC, UTS and cgroup namespaces",
    "empty_root": "the file system is an empty read-only directory",
    "ids": "an unused user and group",
    "capabilities": "no capability in any set",
    "no_new_privileges": "no program can give privileges back",
    "landlock": "no right to files, TCP or scopes",
    "executable_gain": "the memory manager refuses new executable pages",
    "not_dumpable": "no core dump, nobody attaches",
    "parent": "the worker dies with its zygote",
    "filter": "eleven system calls are left",
}
MANDATORY: Final = frozenset(
    {
        "descriptors",
        "limits",
        "writable_code",
        "capabilities",
        "no_new_privileges",
        "not_dumpable",
        "parent",
        "filter",
    }
)


class Refusal(Exception):
    """A mandatory layer is not in force, so the worker does not serve."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"{layer} ({LAYERS.get(layer, 'no such layer')}): {why}")


@attrs.frozen
class Plan:
    """What a worker is to be confined to."""

    parent: int  # process id of the zygote, as the worker sees it
    budgets: limits.Budgets = attrs.field(factory=limits.Budgets)
    entered: namespaces.Entered = attrs.field(factory=namespaces.Entered)
    mandatory: frozenset[str] = MANDATORY  # a superset of `MANDATORY`


@attrs.define
class Report:
    """Which layers are in force, and why others are not."""

    in_force: dict[str, bool] = attrs.field(factory=dict)
    notes: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class _Building:
    """The wall while it goes up."""

    plan: Plan
    report: Report = attrs.field(factory=Report, init=False)

    def put(self, layer: str, step: Callable[[], None]) -> None:
        """Put one layer in force, or note why not. Raises `Refusal` when it is mandatory."""
        try:
            step()
        except (system.Unavailable, OSError, ValueError) as error:
            self.report.in_force[layer] = False
            self.report.notes[layer] = str(error)
            if layer in self.plan.mandatory:
                raise Refusal(layer, str(error)) from error
        else:
            self.report.in_force[layer] = True


def confine(plan: Plan) -> Report:
    """Confine this process for the rest of its life. Raises `Refusal`.

    The filter is in force when this returns; what it does not allow kills.
    """
    unknown = plan.mandatory - LAYERS.keys()
    if unknown:
        raise Refusal(min(unknown), "declared mandatory, but there is no such layer")
    building = _Building(plan)
    put = building.put
    put("limits", lambda: limits.apply(plan.budgets))
    put("writable_code", process.no_writable_code)
    put("namespaces", lambda: _namespaces_are_in_force(plan))
    put("empty_root", lambda: namespaces.move_to_root(plan.entered))
    put("ids", lambda: namespaces.drop_ids(plan.entered))
    put("capabilities", namespaces.drop_capabilities)
    put("no_new_privileges", process.no_new_privileges)
    put("landlock", landlock.restrict)
    put("executable_gain", process.no_executable_gain)
    put("not_dumpable", process.not_dumpable)
    put("parent", lambda: process.die_with_parent(plan.parent))
    put("descriptors", lambda: _keep_only_the_channel(plan))
    put("filter", seccomp.install)
    assert building.report.in_force.keys() == LAYERS.keys()
    return building.report


def _namespaces_are_in_force(plan: Plan) -> None:
    if plan.entered.why_not:
        raise system.Unavailable(plan.entered.why_not)


def _keep_only_the_channel(plan: Plan) -> None:
    """Close what opening the database has opened: it is mapped, and its descriptor is not needed.

    This is the last look at the limits too, since the limit on files is set here.
    """
    system.close_all_from(seccomp.CHANNEL + 1)
    limits.no_more_files()
    os.fstat(seccomp.CHANNEL)
    missing = limits.missing(plan.budgets)
    if missing is not None:
        raise system.Unavailable(missing)
