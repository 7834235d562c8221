"""Namespaces, ids and capabilities: a worker sees no network, no processes and no files of the host.

The namespaces are entered once by the zygote, before it forks; its workers, all
of one deployment, share them. Entering them in each worker would cost
milliseconds apiece and would make each worker the first process of its process
namespace, and that one ignores the signals of its own CPU timer. As it is, the
zygote is the first process there, so the kernel kills all its workers with it.

Each worker then moves into an empty read-only root, and drops ids and
capabilities, after it has opened its database.
"""

from __future__ import annotations

import os
import pwd
import struct
from typing import Final

import attrs

from sandbox.confinement.system import Unavailable, capset, mount, prctl, unshare

_NEW_USER: Final = 0x1000_0000
_SPACES: Final = {
    "mount": 0x0002_0000,
    "cgroup": 0x0200_0000,
    "uts": 0x0400_0000,
    "ipc": 0x0800_0000,
    "pid": 0x2000_0000,
    "network": 0x4000_0000,
}
_MS_RDONLY_NOSUID_NODEV_NOEXEC: Final = 0b1111
_MS_PRIVATE_RECURSIVE: Final = (1 << 18) | (1 << 14)
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x2008_0522

# Where the empty root is mounted; whichever of these exists, as the rest of the tree stays in use until then.
_ROOT_CANDIDATES: Final = ("/sys", "/mnt", "/srv", "/media", "/opt")
# Ids that distributions leave alone; the first without a user is taken. The last is "nobody".
_ID_CANDIDATES: Final[tuple[int, ...]] = (*range(64_800, 64_832), 65_534)


@attrs.frozen
class Entered:
    """What the zygote has entered, for its workers to finish."""

    spaces: frozenset[str] = frozenset()
    root: str | None = None  # an empty directory to move into
    has_user_namespace: bool = False
    why_not: str = "namespaces were not asked for"  # empty when all of them are in force


def is_privileged() -> bool:
    return os.geteuid() == 0


def enter() -> Entered:
    """Enter new namespaces of every kind. The process namespace holds from the next fork on.

    Without privilege this takes a user namespace, where the kernel permits one.
    """
    uid, gid = os.geteuid(), os.getegid()
    entered, why_not = _unshare_each()
    has_user_namespace = False
    if not entered:
        try:
            unshare(_NEW_USER)
            _map_ids(uid, gid)
        except OSError as error:
            return Entered(why_not=f"not privileged, and user namespaces are refused ({error.strerror})")
        has_user_namespace = True
        entered, why_not = _unshare_each()
    return Entered(
        spaces=frozenset(entered),
        root=_empty_root() if "mount" in entered else None,
        has_user_namespace=has_user_namespace,
        why_not=why_not,
    )


def _unshare_each() -> tuple[list[str], str]:
    """Return the kinds entered, and why others were not."""
    entered, refused = [], []
    for name, flag in _SPACES.items():
        try:
            unshare(flag)
        except OSError as error:
            refused.append(f"{name}: {error.strerror}")
        else:
            entered.append(name)
    return entered, "; ".join(refused)


def _map_ids(uid: int, gid: int) -> None:
    """Be the same user inside; the kernel asks that groups be given up first."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _empty_root() -> str | None:
    """Mount an empty read-only directory in our own mount namespace, for workers to move into."""
    try:
        mount(b"none", b"/", None, _MS_PRIVATE_RECURSIVE, None)
    except OSError:
        return None
    for path in _ROOT_CANDIDATES:
        try:
            mount(b"none", os.fsencode(path), b"tmpfs", _MS_RDONLY_NOSUID_NODEV_NOEXEC, b"size=4k,mode=555")
        except OSError:
            continue
        return path
    return None


def move_to_root(entered: Entered) -> None:
    """Leave the host's files behind. Called in the worker, after its database is open."""
    if entered.root is None:
        raise Unavailable(entered.why_not or "there is no place to mount an empty root")
    try:
        os.chroot(entered.root)
        os.chdir("/")
    except OSError as error:
        raise Unavailable(f"the root cannot be changed ({error.strerror})") from None


def drop_ids(entered: Entered) -> None:
    """Become a user and a group that own nothing."""
    if not is_privileged() or entered.has_user_namespace:
        raise Unavailable("not privileged: a worker has the user of whoever started the server")
    try:
        os.setgroups([])
        os.setresgid(_UNUSED_ID, _UNUSED_ID, _UNUSED_ID)
        os.setresuid(_UNUSED_ID, _UNUSED_ID, _UNUSED_ID)
    except OSError as error:
        raise Unavailable(f"ids cannot be changed ({error.strerror})") from None


def _find_unused_id() -> int:
    for number in _ID_CANDIDATES:
        try:
            pwd.getpwuid(number)
        except KeyError:
            return number
    return _ID_CANDIDATES[-1]


# Looked up while files can still be read: at import, in the zygote.
_UNUSED_ID: Final = _find_unused_id()


def drop_bounding_set() -> None:
    """Drop every capability from the bounding set, for all descendants. Called by the zygote.

    What it holds itself it keeps: it needs some to change its workers' ids and root.
    One without privilege can drop none, and gain none.
    """
    for capability in range(64):
        try:
            if prctl(_PR_CAPBSET_READ, capability):
                prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break


def drop_capabilities() -> None:
    """Hold no capability in any set, which is allowed to everybody."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    try:
        capset(header, bytes(24))
    except OSError as error:
        raise Unavailable(f"capabilities cannot be dropped ({error.strerror})") from None
