"""Each layer by itself: it holds where the filter would not, and its absence is noticed."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator

import pytest
from harness import RawWorker, RawZygote, zygote_of

from sandbox.confinement import selftest
from sandbox.confinement.layers import LAYERS, MANDATORY
from sandbox.frames import Broken, Ready

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")

AT_FDCWD = str(2**64 - 100)


@pytest.fixture(scope="module")
def unfiltered() -> Iterator[RawZygote]:
    with zygote_of("broken_walls:serve_without_filter") as zygote:
        yield zygote


@pytest.fixture
def worker(unfiltered: RawZygote) -> Iterator[RawWorker]:
    worker = unfiltered.spawn()
    worker.ready()
    yield worker
    assert worker.end() == "ordinary"


def errno_of(worker: RawWorker, *arguments: str) -> int:
    return int(worker.value("syscall_errno", list(arguments)))


def test_no_file_can_be_opened_without_the_filter(worker: RawWorker) -> None:
    """No descriptor is free, the root is empty, and Landlock refuses what is left."""
    for path in ("PATH", "PROC", "SHELL"):
        assert errno_of(worker, "257", AT_FDCWD, path, "0", "0") in (errno.EMFILE, errno.ENOENT, errno.EACCES)


def test_no_socket_can_be_made_without_the_filter(worker: RawWorker) -> None:
    for kind in ("1", "2", "3"):
        assert errno_of(worker, "41", "2", kind, "0") in (errno.EMFILE, errno.EPERM, errno.EPROTONOSUPPORT)


def test_no_process_can_be_made_without_the_filter(worker: RawWorker) -> None:
    assert errno_of(worker, "57") == errno.EAGAIN


def test_no_program_can_be_started_without_the_filter(worker: RawWorker) -> None:
    assert errno_of(worker, "59", "SHELL", "0", "0") in (errno.EAGAIN, errno.ENOENT, errno.EACCES)


def test_no_descriptor_can_be_duplicated_without_the_filter(worker: RawWorker) -> None:
    assert errno_of(worker, "32", "0") == errno.EMFILE


def test_no_code_can_be_mapped_without_the_filter(worker: RawWorker) -> None:
    assert errno_of(worker, "10", "PAGE", "4096", "5") in (errno.EACCES, errno.EPERM)


def test_no_limit_can_be_raised_without_the_filter(worker: RawWorker) -> None:
    """POINTER is a page of zeros: lowering to zero would be allowed, so it asks for a raise of processes."""
    assert errno_of(worker, "302", "0", "6", "ONES", "0") == errno.EPERM


def test_no_id_can_be_taken_back_without_the_filter(worker: RawWorker) -> None:
    if os.geteuid() == 0:
        assert errno_of(worker, "105", "0") == errno.EPERM
    assert errno_of(worker, "165", "PATH", "PATH", "PATH", "0", "0") in (errno.EPERM, errno.ENOENT)


def test_the_process_namespace_shows_no_process_of_the_host(worker: RawWorker) -> None:
    """The pid of the test is unknown inside; signal 0 asks for no more than existence."""
    assert errno_of(worker, "62", str(os.getpid()), "0") in (errno.ESRCH, errno.EPERM)


def test_every_layer_is_in_force_or_says_why_not(unfiltered: RawZygote) -> None:
    worker = unfiltered.spawn()
    ready = worker.ready()
    assert ready.layers.keys() == LAYERS.keys()
    assert ready.notes.keys() == {name for name, is_in_force in ready.layers.items() if not is_in_force}
    assert all(ready.layers[name] for name in MANDATORY)
    assert worker.end() == "ordinary"


# ---- what is missing is noticed ------------------------------------------------------


def first_frame(entry: str, mandatory: frozenset[str] = frozenset(), **changes: bool) -> Ready | Broken:
    with zygote_of(entry, mandatory=mandatory, **changes) as zygote:
        worker = zygote.spawn()
        frame = worker.hear()
        worker.end()
    assert isinstance(frame, Ready | Broken), frame
    return frame


def test_worker_without_a_mandatory_layer_refuses() -> None:
    frame = first_frame("broken_walls:serve_with_unavailable_filter")
    assert isinstance(frame, Broken)
    assert frame.where == "confinement"
    assert frame.message.startswith("filter (eleven system calls are left): taken away")


def test_worker_without_another_layer_serves_and_says_so() -> None:
    frame = first_frame("broken_walls:serve_without_landlock")
    assert isinstance(frame, Ready)
    assert not frame.layers["landlock"]
    assert frame.notes["landlock"] == "taken away by a test"


def test_deployment_can_declare_a_layer_mandatory() -> None:
    frame = first_frame("broken_walls:serve_without_landlock", frozenset({"landlock"}))
    assert isinstance(frame, Broken)
    assert "taken away by a test" in frame.message


def test_unknown_mandatory_layer_is_refused() -> None:
    frame = first_frame("native_entry:serve_native", frozenset({"lanlock"}))
    assert isinstance(frame, Broken)
    assert "lanlock" in frame.message


def test_worker_serves_without_namespaces_and_says_so() -> None:
    frame = first_frame("native_entry:serve_native", with_namespaces=False)
    assert isinstance(frame, Ready)
    assert not frame.layers["namespaces"]
    assert not frame.layers["empty_root"]


def test_worker_whose_database_cannot_be_opened_says_so() -> None:
    frame = first_frame("broken_walls:serve_without_database")
    assert isinstance(frame, Broken)
    assert frame.where == "database"
    assert "no such database" in frame.message


def test_descriptors_of_the_database_are_closed() -> None:
    with zygote_of("broken_walls:serve_with_open_files") as zygote:
        worker = zygote.spawn()
        assert worker.ready().txn_id == 5
        assert worker.value("facts")["environment"] == 0
        assert worker.end() == "ordinary"


def test_self_test_notices_a_filter_with_a_hole() -> None:
    with zygote_of("broken_walls:serve_with_sockets") as zygote:
        found = {}
        for name in selftest.ATTEMPTS:
            worker = zygote.spawn(attempt=name)
            worker.hear()
            worker.channel.close()
            found[name] = selftest.is_refused(zygote.status_of(worker.serial))
    assert [name for name, is_refused in found.items() if not is_refused] == ["socket"]
