"""Native code inside a locked worker: everything but computing and answering ends it.

The language layer is off here (see `entries/native_entry.py`). Every attempt has
a fresh worker. What must hold: the kernel ends the worker with the filter's
signal, and the zygote goes on serving.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest
from harness import SMALL, RawZygote, run_frame, zygote_of

from sandbox.confinement.seccomp import RULES
from sandbox.confinement.system import MACHINES
from sandbox.frames import Ran
from tidewell.values import unpack

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")

# Addresses in the worker, put in there.
POINTER, PAGE, PATH, PROC, SHELL = "POINTER", "PAGE", "PATH", "PROC", "SHELL"
X32 = 0x4000_0000
AT_FDCWD = 2**64 - 100
EXEC, RW = 5, 3
FREE = 0x22  # private, anonymous
HIGH = 2**32  # a bit that a comparison of 32 bits would miss
ALLOWED = {MACHINES["x86_64"].numbers[name] for name in RULES}

# name: raw system call. The numbers of x86-64, each with arguments that would do harm.
CALLS: dict[str, list[int | str]] = {
    # files
    "open": [2, PATH, 0, 0],
    "open for writing": [2, PATH, 0o1101, 0o666],
    "open memory of itself": [2, PROC, 2, 0],
    "openat": [257, AT_FDCWD, PATH, 0, 0],
    "openat2": [437, AT_FDCWD, PATH, POINTER, 24],
    "open by handle": [304, AT_FDCWD, POINTER, 0],
    "open tree": [428, AT_FDCWD, PATH, 0],
    "creat": [85, PATH, 0o666],
    "stat": [4, PATH, POINTER],
    "statx": [332, AT_FDCWD, PATH, 0, 0, POINTER],
    "access": [21, PATH, 0],
    "readlink": [89, PATH, POINTER, 100],
    "getdents": [217, 0, POINTER, 100],
    "unlink": [87, PATH],
    "rename": [82, PATH, PATH],
    "mkdir": [83, PATH, 0o777],
    "chmod": [90, PATH, 0o777],
    "link": [86, PATH, PATH],
    "symlink": [88, PATH, PATH],
    "mknod": [133, PATH, 0o60600, 0],
    "truncate": [76, PATH, 0],
    "inotify": [254, 0, PATH, 1],
    "fanotify": [300, 0, 0],
    "getcwd": [79, POINTER, 100],
    # sockets
    "stream socket": [41, 2, 1, 0],
    "datagram socket": [41, 2, 2, 0],
    "raw socket": [41, 2, 3, 255],
    "unix socket": [41, 1, 1, 0],
    "unix datagram socket": [41, 1, 2, 0],
    "netlink socket": [41, 16, 3, 0],
    "vsock socket": [41, 40, 1, 0],
    "packet socket": [41, 17, 3, 0],
    "alg socket": [41, 38, 5, 0],
    "socketpair": [53, 1, 1, 0, POINTER],
    "connect on the channel": [42, 0, POINTER, 16],
    "bind on the channel": [49, 0, POINTER, 16],
    "accept on the channel": [43, 0, POINTER, POINTER],
    "sendto on the channel": [44, 0, POINTER, 1, 0, 0, 0],
    "sendmsg with ancillary data": [46, 0, POINTER, 0],
    "recvmsg for descriptors": [47, 0, POINTER, 0],
    "sendmmsg": [307, 0, POINTER, 1, 0],
    "setsockopt on the channel": [54, 0, 1, 2, POINTER, 4],
    "getpeername": [52, 0, POINTER, POINTER],
    "shutdown of the channel": [48, 0, 2],
    # descriptors
    "dup": [32, 0],
    "dup2": [33, 0, 5],
    "dup3": [292, 0, 5, 0],
    "fcntl to duplicate": [72, 0, 0, 3],
    "fcntl to change flags": [72, 0, 4, 0o4000],
    "close of the channel": [3, 0],
    "close range": [436, 0, 2**32 - 1, 0],
    "pipe": [22, POINTER],
    "eventfd": [290, 0, 0],
    "epoll": [291, 0],
    "timerfd": [283, 1, 0],
    "signalfd": [289, 2**64 - 1, POINTER, 8, 0],
    "memfd": [319, PATH, 1],
    "memfd secret": [447, 0],
    "userfaultfd": [323, 1],
    "pidfd of the zygote": [434, 1, 0],
    "descriptor of another process": [438, 3, 0, 0],
    "ioctl on the channel": [16, 0, 0x541B, POINTER],
    "read of another descriptor": [0, 1, POINTER, 1],
    "read of a descriptor with high bits": [0, HIGH, POINTER, 1],
    "write to standard output": [1, 1, POINTER, 1],
    "write to standard error": [1, 2, POINTER, 1],
    "write to no descriptor": [1, 2**64 - 1, POINTER, 1],
    "vectored read": [19, 0, POINTER, 1],
    "vectored write": [20, 0, POINTER, 1],
    "splice": [275, 0, 0, 0, 0, 10, 0],
    "sendfile": [40, 0, 0, 0, 10],
    # processes
    "fork": [57],
    "vfork": [58],
    "clone": [56, 0x11, 0, 0, 0, 0],
    "clone of a thread": [56, 0x10F00, 0, 0, 0, 0],
    "clone3": [435, POINTER, 88],
    "execve": [59, SHELL, 0, 0],
    "execveat": [322, AT_FDCWD, SHELL, 0, 0, 0],
    "kill everything": [62, 2**64 - 1, 9],
    "kill the zygote": [62, 1, 9],
    "tgkill": [234, 1, 1, 9],
    "tkill": [200, 1, 9],
    "signal by pidfd": [424, 0, 9, 0, 0],
    "queued signal": [129, 1, 9, POINTER],
    "wait": [61, 2**64 - 1, POINTER, 1, 0],
    "ptrace attach": [101, 16, 1, 0, 0],
    "ptrace of itself": [101, 0, 0, 0, 0],
    "read of another's memory": [310, 1, POINTER, 1, POINTER, 1, 0],
    "write of another's memory": [311, 1, POINTER, 1, POINTER, 1, 0],
    "advice on another's memory": [440, 0, POINTER, 1, 4, 0],
    "comparison of processes": [312, 1, 1, 0, 0, 0],
    "getpid": [39],
    "new session": [112],
    "scheduling": [144, 0, 1, POINTER],
    "affinity": [203, 0, 8, POINTER],
    "priority": [141, 0, 0, 2**64 - 20],
    # signals and timers
    "signal handler": [13, 31, POINTER, 0, 8],
    "signal mask": [14, 2, POINTER, 0, 8],
    "alternate stack": [131, POINTER, 0],
    "pause": [34],
    "alarm": [37, 0],
    "CPU timer switched off": [38, 2, POINTER, 0],
    "timer": [222, 1, 0, POINTER],
    "nanosleep": [35, POINTER, 0],
    "clock nanosleep": [230, 1, 0, POINTER, 0],
    "clock by system call": [228, 1, POINTER],
    "futex": [202, POINTER, 0, 0, 0, 0, 0],
    "poll": [7, 0, 0, 10_000],
    "select": [23, 0, 0, 0, 0, 0],
    # privileges and limits
    "setuid": [105, 0],
    "setgid": [106, 0],
    "setresuid": [117, 0, 0, 0],
    "capset": [126, POINTER, POINTER],
    "limit raised": [160, 2, POINTER],
    "limit of another": [302, 0, 2, POINTER, POINTER],
    "dumpable again": [157, 4, 1, 0, 0, 0],
    "second filter": [317, 1, 0, POINTER],
    "filter by prctl": [157, 22, 2, POINTER, 0, 0],
    "arch prctl": [158, 0x1002, POINTER],
    "unshare": [272, 0x1000_0000],
    "setns": [308, 0, 0],
    "chroot": [161, PATH],
    "pivot root": [155, PATH, PATH],
    "mount": [165, PATH, PATH, PATH, 0, 0],
    "new mount interface": [430, PATH, 0],
    "unmount": [166, PATH, 2],
    "personality": [135, 0x0040000],
    # interfaces of the kernel
    "io_uring": [425, 8, POINTER],
    "io_uring enter": [426, 0, 1, 1, 0, 0, 0],
    "asynchronous input": [206, 8, POINTER],
    "bpf": [321, 5, POINTER, 72],
    "performance counters": [298, POINTER, 0, 2**64 - 1, 2**64 - 1, 0],
    "keyring": [250, 0, 2**64 - 3, 0, 0, 0],
    "new key": [248, PATH, PATH, POINTER, 1, 2**64 - 3],
    "module": [175, POINTER, 1, PATH],
    "module from a descriptor": [313, 0, PATH, 0],
    "kexec": [246, 0, 0, 0, 0],
    "reboot": [169, 0xFEE1DEAD, 672274793, 0x1234567, 0],
    "kernel log": [103, 3, POINTER, 100],
    "port access": [172, 3],
    "descriptor tables": [154, 1, POINTER, 16],
    "randomness": [318, POINTER, 8, 0],
    "accounting": [163, PATH],
    "quota": [179, 0, PATH, 0, POINTER],
    "swap": [167, PATH, 0],
    "host name": [170, POINTER, 1],
    "time of day": [164, POINTER, 0],
    "landlock": [444, POINTER, 8, 0],
    # memory
    "map executable": [9, 0, 4096, EXEC, FREE, 2**64 - 1, 0],
    "map all rights": [9, 0, 4096, 7, FREE, 2**64 - 1, 0],
    "map with high bits of rights": [9, 0, 4096, RW + HIGH, FREE, 2**64 - 1, 0],
    "map of the channel": [9, 0, 4096, RW, 2, 0, 0],
    "map shared and anonymous": [9, 0, 4096, RW, 0x21, 2**64 - 1, 0],
    "map growing down": [9, 0, 4096, RW, FREE | 0x100, 2**64 - 1, 0],
    "map huge pages": [9, 0, 2**21, RW, FREE | 0x40000, 2**64 - 1, 0],
    "map locked": [9, 0, 4096, RW, FREE | 0x2000, 2**64 - 1, 0],
    "map at a fixed place": [9, 4096, 4096, RW, FREE | 0x10, 2**64 - 1, 0],
    "map with high bits of flags": [9, 0, 4096, RW, FREE + HIGH, 2**64 - 1, 0],
    "protect executable": [10, PAGE, 4096, EXEC],
    "protect growing down": [10, PAGE, 4096, RW | 0x0100_0000],
    "protect with a key": [329, PAGE, 4096, RW, 2**64 - 1],
    "new protection key": [330, 0, 0],
    "remap to a fixed place": [25, PAGE, 4096, 4096, 3, PAGE],
    "remap and keep": [25, PAGE, 4096, 4096, 5, 0],
    "remap file pages": [216, POINTER, 4096, 0, 0, 0],
    "merge equal pages": [28, PAGE, 4096, 12],
    "poison a page": [28, PAGE, 4096, 100],
    "shared segment": [29, 0, 4096, 0o1600],
    "attach a shared segment": [30, 0, 0, 0],
    "message queue": [68, 0, 0o1600],
    "semaphores": [64, 0, 1, 0o1600],
    "named queue": [240, PATH, 0o102, 0o600, 0],
    "lock memory": [149, POINTER, 4096],
    "lock all memory": [151, 1],
    "page residency": [27, PAGE, 4096, POINTER],
    "move pages": [279, 0, 0, 0, 0, 0, 0],
    "map shadow stack": [453, 0, 4096, 0],
    "seal memory": [462, PAGE, 4096, 0],
    # the other interface of 64 bits
    "x32 read": [X32 + 0, 0, POINTER, 1],
    "x32 open": [X32 + 2, PATH, 0, 0],
    "x32 execve": [X32 + 520, SHELL, 0, 0],
    "x32 ptrace": [X32 + 521, 16, 1, 0, 0],
    "x32 sendmsg": [X32 + 518, 0, POINTER, 0],
    "no such call": [9_999],
    "highest number": [2**31 - 1],
}

# Through libraries, the way exploits are written: name, payload, argument.
FUNCTIONS: dict[str, tuple[str, object]] = {
    "os.listdir": ("python_call", ["listdir", "/"]),
    "os.fork": ("python_call", ["fork"]),
    "os.system": ("python_call", ["system", "id"]),
    "os.kill": ("python_call", ["kill", 1, 9]),
    "os.urandom": ("python_call", ["urandom", 8]),
    "os.getpid": ("python_call", ["getpid"]),
    "libc system": ("libc_function", ["system", b"id"]),
    "libc raise": ("libc_function", ["raise", 9]),
    "libc abort": ("libc_function", ["abort"]),
    "libc dlopen": ("libc_function", ["dlopen", b"libm.so.99", 2]),
    "libc sleep": ("libc_function", ["sleep", 100]),
    "libc usleep": ("libc_function", ["usleep", 100]),
    "libc pthread": ("libc_function", ["daemon", 0, 0]),
    "libc getaddrinfo": ("libc_function", ["gethostbyname", b"localhost"]),
    "libc syslog": ("libc_function", ["syslog", 1, b"x"]),
    "map executable and run": ("map_executable_and_run", None),
    "page made executable": ("make_page_executable", None),
    "code made writable and back": ("make_code_writable_and_back", None),
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[RawZygote]:
    with zygote_of("native_entry:serve_native") as zygote:
        yield zygote


def raw(arguments: list[int | str]) -> list[str]:
    """As text, since values have no numbers as large as these."""
    return [str(argument) for argument in arguments]


def kind_after(zygote: RawZygote, payload: str, argument: object) -> str:
    """Run a payload in a fresh worker; "ordinary" when it answered and went on."""
    worker = zygote.spawn()
    worker.ready()
    reply = worker.ask(run_frame(payload, argument))
    if isinstance(reply, Ran):
        pytest.fail(f"{payload} returned {unpack(reply.outcomes[0].value)}; then {worker.end()}")
    assert reply is None, reply
    return worker.end()


@pytest.mark.parametrize("name", CALLS)
def test_harmful_call_ends_the_worker(zygote: RawZygote, name: str) -> None:
    assert kind_after(zygote, "syscall", raw(CALLS[name])) == "security"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_library_function_ends_the_worker(zygote: RawZygote, name: str) -> None:
    payload, argument = FUNCTIONS[name]
    assert kind_after(zygote, payload, argument) == "security"


def test_every_number_that_is_not_allowed_ends_the_worker(zygote: RawZygote) -> None:
    """All but two, which newer kernels let pass by every filter: uretprobe and uprobe.

    They are entries for the kernel's own trampolines, and do nothing anywhere else.
    """
    survivors = set()
    for number in sorted(set(range(480)) - ALLOWED):
        worker = zygote.spawn()
        worker.ready()
        reply = worker.ask(run_frame("syscall", raw([number, 0, 0, 0, 0, 0, 0])))
        if worker.end() != "security" or reply is not None:
            survivors.add(number)
    assert survivors <= {335, 336}


def test_every_allowed_number_through_x32_ends_the_worker(zygote: RawZygote) -> None:
    for number in sorted(ALLOWED):
        assert kind_after(zygote, "syscall", raw([X32 + number, 0, POINTER, 1])) == "security"


def test_the_32_bit_interface_ends_the_worker(zygote: RawZygote) -> None:
    worker = zygote.spawn()
    worker.ready()
    reply = worker.ask(run_frame("old_interface_by_interrupt"))
    if isinstance(reply, Ran):
        assert unpack(reply.outcomes[0].value) == "no such instruction"
        assert worker.end() == "ordinary"
    else:
        assert worker.end() in ("security", "crash")  # crash where the kernel has no such interface


def test_the_vsyscall_page_is_no_way_around_the_filter(zygote: RawZygote) -> None:
    assert kind_after(zygote, "vsyscall_page", None) in (
        "security",
        "crash",
    )  # crash where there is no such page


def test_a_written_page_does_not_run(zygote: RawZygote) -> None:
    assert kind_after(zygote, "run_written_page", None) == "crash"


def test_known_gap_the_clock_can_be_read_without_a_call(zygote: RawZygote) -> None:
    """Native code has a clock: see `process.py` for why it cannot be taken away."""
    worker = zygote.spawn()
    worker.ready()
    assert worker.value("clock_without_a_call") is True
    assert worker.end() == "ordinary"


# ---- what is allowed must work, or the tests above prove nothing --------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [9, 0, 4096, RW, FREE, 2**64 - 1, 0],
        [9, 0, 4096, 0, FREE | 0x4000, 2**64 - 1, 0],
        [12, 0],
        [28, PAGE, 0, 4],
    ],
    ids=["map", "reserve", "brk", "give back"],
)
def test_memory_calls_that_malloc_needs_return(zygote: RawZygote, arguments: list[int | str]) -> None:
    worker = zygote.spawn()
    worker.ready()
    assert worker.value("syscall", raw(arguments)) >= 0
    assert worker.end() == "ordinary"


# ---- memory ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_zygote() -> Iterator[RawZygote]:
    with zygote_of("native_entry:serve_native", budgets=SMALL) as zygote:
        yield zygote


@pytest.mark.parametrize(
    "payload",
    [
        "hoard_by_malloc",
        "hoard_by_brk",
        "hoard_read_only_pages",
        "hoard_by_mremap",
        "hoard_reserved_pages",
        "swallow_memory_errors",
    ],
)
def test_memory_cannot_be_hoarded_beyond_the_budget(small_zygote: RawZygote, payload: str) -> None:
    """The stack's share of the address space is the only room above the budget."""
    worker = small_zygote.spawn()
    worker.ready()
    reply = worker.ask(run_frame(payload))
    if isinstance(reply, Ran):
        assert unpack(reply.outcomes[0].value) <= SMALL.memory_bytes + 8 * 2**20
    assert worker.end() in ("ordinary", "memory", "crash")


def test_python_code_out_of_memory_ends_with_the_status_for_it(small_zygote: RawZygote) -> None:
    worker = small_zygote.spawn()
    worker.ready()
    assert worker.ask(run_frame("hoard_in_python")) is None
    assert worker.end() == "memory"


def test_a_fault_is_a_crash(zygote: RawZygote) -> None:
    assert kind_after(zygote, "read_memory_of_nobody", None) == "crash"


def test_an_overflow_of_the_stack_is_a_crash(zygote: RawZygote) -> None:
    """By a fault signal, or by the interpreter's own count of C frames, which later versions have."""
    worker = zygote.spawn()
    worker.ready()
    assert not isinstance(worker.ask(run_frame("overflow_the_stack")), Ran)
    assert worker.end() == "crash"


def test_a_zygote_serves_on_after_all_this(zygote: RawZygote) -> None:
    worker = zygote.spawn()
    worker.ready()
    assert worker.value("facts") == {"environment": 0, "arguments": 0, "has_engine": False}
    assert worker.end() == "ordinary"
