"""Rows of ``arb doctor`` about the host: files and settings of the kernel, read and never changed.

Everything is read below ``HostView.root``, so that a test can show another host. What cannot be read is ``unknown``.
"""

from __future__ import annotations

import os
import resource
import shutil
import ssl
from pathlib import Path

import msgspec

from pipeline.exchanges.transport.openssl import why_missing
from pipeline.model.config import EngineConfig
from pipeline.model.enums import WaitStrategy
from shm.errors import ShmError
from shm.segment import PREFIX, SHM_FOLDER, owner_lives
from shm.sources import cache_root
from workers.setup.checks import Check, State
from workers.state_folder import state_root

GIB = 1024**3
STATE_FREE_WARN = 5 * GIB  # the journal alone may keep 2 GiB
STATE_FREE_FAIL = GIB // 4
SHM_FREE_WARN = GIB
SHM_FREE_FAIL = 128 * 1024**2
MEMORY_FREE_WARN = 2 * GIB
MEMLOCK_WARN = GIB
CORES_WANTED = 4  # feeds, detector and executor for themselves, one for the rest


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """The host as files below ``root``; ``pid``: the process whose cgroup counts."""

    root: Path
    pid: int

    def read(self, path: str) -> str | None:
        """Text of a file, stripped; None where it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def paths(self, pattern: str) -> list[Path]:
        """Files below the root by a pattern, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))


def host_checks(view: HostView, config: EngineConfig | None, instance: str) -> list[Check]:
    """All rows of this file."""
    rows = [
        _space("disk of the state folder", _existing(state_root()), STATE_FREE_WARN, STATE_FREE_FAIL),
        _space("/dev/shm", Path("/dev/shm"), SHM_FREE_WARN, SHM_FREE_FAIL),
        _memory(view),
        _cores(config),
        _governor(view),
        _clocksource(view),
        _transparent_huge_pages(view),
        _memlock(),
        _tls(),
        _cache(),
        _segments(),
    ]
    return [*rows, *_swap(view)]


def _tls() -> Check:
    want = f"functions of {ssl.OPENSSL_VERSION} that can be called, so that orders leave in one call"
    fix = "a Python whose `ssl` links libssl as a shared library; orders go by `ssl` meanwhile, later by tens of us"
    missing = why_missing()
    found = missing or "they can"
    return Check("orders over TLS", State.WARN if missing else State.OK, found, want, fix)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _bytes(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 1024**2:.0f} MiB"


def _space(name: str, folder: Path, warn: int, fail: int) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(
            name, State.UNKNOWN, error.strerror or "cannot be read", f"{_bytes(warn)} free", f"look at {folder}"
        )
    state = State.FAIL if free < fail else State.WARN if free < warn else State.OK
    fix = "mount -o remount,size=2G /dev/shm" if folder == Path("/dev/shm") else f"make room below {folder}"
    return Check(name, state, f"{_bytes(free)} free", f"{_bytes(warn)} free", fix)


def _memory(view: HostView) -> Check:
    want = f"{_bytes(MEMORY_FREE_WARN)} available"
    for line in (view.read("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable" and rest.split()[:1] and rest.split()[0].isdigit():
            free = int(rest.split()[0]) * 1024
            return Check(
                "memory", _least(free, MEMORY_FREE_WARN), f"{_bytes(free)} available", want, "stop other programs"
            )
    return Check("memory", State.UNKNOWN, "/proc/meminfo cannot be read", want, "")


def _least(found: int, wanted: int) -> State:
    return State.OK if found >= wanted else State.WARN


def _swap(view: HostView) -> list[Check]:
    reported = view.read("/proc/sys/vm/swappiness")
    devices = (view.read("/proc/swaps") or "").splitlines()[1:]
    if reported is None or not devices:
        return []
    state = State.OK if reported.isdigit() and int(reported) <= 10 else State.WARN
    return [Check("swappiness", state, reported, "at most 10", "sysctl vm.swappiness=10")]


def _cores(config: EngineConfig | None) -> Check:
    usable = len(os.sched_getaffinity(0))
    state = _least(usable, CORES_WANTED)
    found = f"{usable} CPUs usable"
    spins = [] if config is None else [n for n, p in config.processes.items() if p.wait is WaitStrategy.SPIN]
    if len(spins) >= usable:
        found += f", {len(spins)} processes spin ({', '.join(spins)})"
        return Check("cores", State.FAIL, found, "fewer spinning processes than CPUs", "set processes.NAME.wait: park")
    fix = "a host with more CPUs; with fewer all processes park and share them"
    return Check("cores", state, found, f"{CORES_WANTED} or more", fix)


def _governor(view: HostView) -> Check:
    found = {
        view.read(str(p.relative_to(view.root)))
        for p in view.paths("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    }
    names = sorted(name for name in found if name)
    fix = "cpupower frequency-set -g performance"
    if not names:
        return Check(
            "governor", State.UNKNOWN, "no frequency scaling is shown (a virtual machine?)", "performance", fix
        )
    state = State.OK if names == ["performance"] else State.WARN
    return Check("governor", state, ", ".join(names), "performance", fix)


def _clocksource(view: HostView) -> Check:
    found = view.read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    fix = "boot with tsc=reliable clocksource=tsc where the hardware allows"
    if found is None:
        return Check("clock source", State.UNKNOWN, "not shown", "tsc", fix)
    return Check(
        "clock source", State.OK if found in ("tsc", "kvm-clock", "arch_sys_counter") else State.WARN, found, "tsc", fix
    )


def _transparent_huge_pages(view: HostView) -> Check:
    reported = view.read("/sys/kernel/mm/transparent_hugepage/enabled")
    fix = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
    if reported is None or "[" not in reported:
        return Check("transparent huge pages", State.UNKNOWN, "not shown", "madvise or never", fix)
    chosen = reported.partition("[")[2].partition("]")[0]
    state = State.WARN if chosen == "always" else State.OK
    return Check("transparent huge pages", state, chosen, "madvise or never", fix)


def _memlock() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = soft == resource.RLIM_INFINITY
    found = "unlimited" if unlimited else _bytes(soft)
    state = State.OK if unlimited or soft >= MEMLOCK_WARN else State.WARN
    return Check("memlock", state, found, "unlimited", "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited")


def _cache() -> Check:
    folder = cache_root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"{folder}: {error.strerror}"
        return Check("kernel cache", State.WARN, text, "a folder that can be written", "set ARB_CACHE_DIR to one")
    if not os.access(folder, os.W_OK):
        text = f"{folder} cannot be written: each start compiles anew"
        return Check("kernel cache", State.WARN, text, "a folder that can be written", "set ARB_CACHE_DIR to one")
    filled = any(folder.iterdir())
    found = str(folder) if filled else f"{folder} is empty: the first start compiles"
    return Check("kernel cache", State.OK if filled else State.WARN, found, "filled", "`arb demo` fills it")


def segments_by_owner() -> dict[str, tuple[int, int]]:
    """Instance -> (segments whose owner lives, whose owner has died); those of other users are left out."""
    found: dict[str, tuple[int, int]] = {}
    for entry in sorted(os.listdir(SHM_FOLDER)):
        prefix, _, rest = entry.partition(".")
        if prefix != PREFIX or "." not in rest:
            continue
        try:
            lives = owner_lives(f"/{entry}")
        except ShmError:
            continue
        living, dead = found.get(rest.split(".")[0], (0, 0))
        found[rest.split(".")[0]] = (living + lives, dead + (not lives))
    return found


def _segments() -> Check:
    """An instance with a living owner cleans up by itself; of others nothing is needed any more."""
    left = {name: dead for name, (living, dead) in segments_by_owner().items() if dead and not living}
    text = ", ".join(f"{name} {count}" for name, count in left.items())
    remove = " ".join(f"{SHM_FOLDER}/{PREFIX}.{name}.*" for name in left)
    fix = f"they go at the next start of their instance, or: rm {remove}"
    return Check("stale segments", State.WARN if left else State.OK, text or "none", "none", fix)
