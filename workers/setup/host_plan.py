"""``arb host``: which CPU for which process, and the settings of the kernel that go with it: planned, set, read back.

Everything is read and written below ``HostView.root``, so that a test can show another host. What a setting was before
is kept in a file before it is changed; :func:`revert` writes that back. What was kept in another boot is forgotten: it
was set anew since, and interrupts have other numbers. The profile for tuned outlives a boot, and so does what stood in
its place. What holds from the next boot on alone (the kernel's command line) is named and never set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.errors import BadInput
from workers.setup.host_checks import HostView
from workers.setup.scheduling_checks import cpu_set
from workers.state_folder import replace_file

CPU_FOLDER = "/sys/devices/system/cpu"
#: Processes that may spin, in the order in which they are given a core of their own.
SPINNERS = ("detector", "executor", "feed")
CORES_LEAST = 4  # with fewer, whoever spins takes a core from somebody who works
TUNED_FILE = "/etc/tuned/arb/tuned.conf"
TUNED_ACTIVE = "/etc/tuned/active_profile"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: Path -> (value, why); a path with ``*`` stands for each file that it fits.
SETTINGS: Mapping[str, tuple[str, str]] = {
    f"{CPU_FOLDER}/cpu*/cpufreq/scaling_governor": ("performance", "a CPU that slept answers late"),
    "/sys/kernel/mm/transparent_hugepage/enabled": ("madvise", "pages are merged while somebody waits"),
    "/proc/sys/vm/swappiness": ("10", "what is swapped out comes back in milliseconds"),
    "/proc/sys/vm/stat_interval": ("10", "statistics interrupt each CPU once a second"),
    "/proc/sys/kernel/timer_migration": ("0", "timers of others move to pinned CPUs"),
    "/proc/sys/kernel/numa_balancing": ("0", "pages are unmapped to see who uses them"),
}
INTERRUPTS = "/proc/irq/*/smp_affinity_list"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the kernel: what it says, what is wanted, and why."""

    path: str
    found: str
    want: str
    why: str

    @property
    def holds(self) -> bool:
        """Whether nothing is to be done."""
        return self.found == self.want


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``processes``: as in the configuration. ``notes``: why so. ``kernel``: words of its command line that are
    wanted and missing. ``tuned``: a profile for tuned, which keeps all of it over a boot."""

    processes: dict[str, dict[str, Any]]
    notes: list[str]
    settings: list[Setting]
    kernel: list[str]
    tuned: str


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`apply` found. ``settings``: path -> value, of the boot ``boot_id``; ``tuned``: [what stood in the
    profile's file, None = no file], [] = it was not touched."""

    boot_id: str
    settings: dict[str, str] = {}
    tuned: list[str | None] = []


def cores(view: HostView) -> list[list[int]]:
    """CPUs of each physical core, by their numbers; siblings of one core are together."""
    online = cpu_set(view.read(f"{CPU_FOLDER}/online") or "")
    found = {
        tuple(sorted(cpu_set(view.read(f"{CPU_FOLDER}/cpu{cpu}/topology/thread_siblings_list") or str(cpu)) & online))
        or (cpu,)
        for cpu in online
    }
    return [list(core) for core in sorted(found)]


def cpu_text(cpus: Sequence[int]) -> str:
    """A list as the kernel spells it (``0,2-4``)."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def plan(view: HostView, feeds: Sequence[str]) -> HostPlan:
    """What this host should be given to. ``feeds``: exchanges, each of which has a feed. Raises BadInput."""
    physical = cores(view)
    if not physical:
        raise BadInput(f"{view.root}: {CPU_FOLDER}/online is not shown, wanted Linux with /sys")
    house, rest = physical[0], physical[1:]
    if len(physical) < CORES_LEAST:
        notes = [
            f"{len(physical)} cores, {CORES_LEAST} are wanted to pin: no process is given a core of its own, all park"
        ]
        return HostPlan(processes={}, notes=notes, settings=_settings(view, []), kernel=[], tuned="")
    processes, notes, own = _pinned(house, rest, feeds)
    everyone = [cpu for core in physical for cpu in core if cpu not in own]
    settings = _settings(view, everyone)
    return HostPlan(
        processes=processes, notes=notes, settings=settings, kernel=_kernel(view, own, everyone), tuned=_tuned(own)
    )


def _pinned(
    house: list[int], rest: list[list[int]], feeds: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], list[str], list[int]]:
    """(processes, notes, CPUs that are nobody else's). Beside the first core one stays free, for who is not pinned."""
    names = [*SPINNERS[:2], *([f"feed.{name}" for name in feeds] or [SPINNERS[2]])]
    given = rest[: max(0, len(rest) - 1)]
    processes: dict[str, dict[str, Any]] = {}
    notes = [f"CPU {cpu_text(house)}: interrupts, the kernel and every process that is not pinned"]
    for name, core in zip(names, given, strict=False):
        processes[name] = {"cpus": [core[0]], "wait": "spin"}
        idle = f"; {cpu_text(core[1:])}, of the same core, stays idle" if len(core) > 1 else ""
        notes.append(f"CPU {core[0]}: {name} alone{idle}")
    left = names[len(given) :]
    if left:
        notes.append(f"no core of its own is left for {', '.join(left)}: parked, on any CPU that is free")
    own = sorted(cpu for core in given[: len(names)] for cpu in core)
    return processes, notes, own


def _settings(view: HostView, everyone: Sequence[int]) -> list[Setting]:
    wanted = dict(SETTINGS)
    if everyone:
        wanted[INTERRUPTS] = (cpu_text(everyone), "an interrupt takes its CPU from a process that is pinned there")
    found = []
    for pattern, (want, why) in wanted.items():
        for path in view.paths(pattern):
            name = f"/{path.relative_to(view.root)}"
            reported = view.read(name)
            if reported is not None:
                found.append(Setting(path=name, found=chosen(reported), want=want, why=why))
    return found


def chosen(reported: str) -> str:
    """What is in force of a file that lists every choice, with that one in brackets; else the file's text."""
    inside = reported.partition("[")[2].partition("]")
    return inside[0] if inside[1] else reported


def _kernel(view: HostView, own: Sequence[int], everyone: Sequence[int]) -> list[str]:
    pinned = cpu_text(own)
    wanted = [
        f"isolcpus=managed_irq,domain,{pinned}",
        f"nohz_full={pinned}",
        f"rcu_nocbs={pinned}",
        f"irqaffinity={cpu_text(everyone)}",
        "skew_tick=1",
    ]
    given = (view.read("/proc/cmdline") or "").split()
    return [word for word in wanted if word not in given]


def _tuned(own: Sequence[int]) -> str:
    pinned = cpu_text(own)
    return (
        "# Written by `arb host apply`: `tuned-adm profile arb` puts it in force, also after a boot.\n"
        "[main]\nsummary=arb: cores of their own for pinned processes\ninclude=cpu-partitioning\n\n"
        f"[variables]\nisolated_cores={pinned}\nno_balance_cores={pinned}\n\n"
        "[sysctl]\nvm.swappiness=10\n"
    )


def apply(view: HostView, wanted: HostPlan, kept: Path) -> list[Setting]:
    """Sets what does not hold, and reads each back: the rows as they are then, that of the profile last, where tuned is
    installed. What was before goes into ``kept`` first; what stands there already is older and stays."""
    before, tuned = _kept(view, kept), _tuned_path(view)
    changes = [row for row in wanted.settings if not row.holds]
    settings = {**{row.path: row.found for row in changes}, **before.settings}
    profile = before.tuned
    writes_profile = bool(wanted.tuned) and tuned.parent.parent.is_dir() and _text(tuned) != wanted.tuned
    if writes_profile and not profile:
        profile = [_text(tuned)]
    if (settings, profile) != (before.settings, before.tuned):
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = msgspec.structs.replace(before, settings=settings, tuned=profile)
        replace_file(kept, msgspec.json.encode(fresh))
    for row in changes:
        _write(view, row.path, row.want)
    if writes_profile:
        _write(view, TUNED_FILE, wanted.tuned)
    rows = [_read_back(view, row) for row in wanted.settings]
    if wanted.tuned and tuned.parent.parent.is_dir():
        found = "written" if _text(tuned) == wanted.tuned else "not written"
        rows.append(Setting(path=TUNED_FILE, found=found, want="written", why="tuned keeps it over a boot"))
    return rows


def revert(view: HostView, kept: Path) -> list[Setting]:
    """Writes back what :func:`apply` found in this boot, and reads it: the rows as they are then. A file that is gone
    (an interrupt that was freed, a CPU that is off) has nothing to take back. ``kept`` goes when all hold."""
    before = _kept(view, kept)
    rows = [
        Setting(path=path, found="", want=value, why="as it was") for path, value in sorted(before.settings.items())
    ]
    for row in rows:
        _write(view, row.path, row.want)
    found = [_read_back(view, row) if (view.root / row.path.lstrip("/")).exists() else _gone(row) for row in rows]
    if before.tuned:
        found.append(_revert_profile(view, before.tuned[0]))
    if all(row.holds for row in found):
        kept.unlink(missing_ok=True)
    return found


def _revert_profile(view: HostView, text: str | None) -> Setting:
    """Puts back what stood in the profile's file; not under a tuned that has it in force, which would miss it."""
    path = _tuned_path(view)
    if view.read(TUNED_ACTIVE) == path.parent.name:
        why = "`tuned-adm off` or another `tuned-adm profile NAME`, then `arb host revert` again"
        return Setting(path=TUNED_FILE, found="in force", want="as it was", why=why)
    if text is not None:
        _write(view, TUNED_FILE, text)
    else:
        with contextlib.suppress(OSError):  # seen below
            path.unlink(missing_ok=True)
            path.parent.rmdir()  # where nothing else is in it
    found = "as it was" if _text(path) == text else "not put back"
    return Setting(path=TUNED_FILE, found=found, want="as it was", why="the profile for tuned")


def _gone(row: Setting) -> Setting:
    return msgspec.structs.replace(row, found="gone", want="gone", why="nothing is left to take back")


def _tuned_path(view: HostView) -> Path:
    return view.root / TUNED_FILE.lstrip("/")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _kept(view: HostView, path: Path) -> Before:
    """What is kept, of this boot."""
    boot_id = view.read(BOOT_ID) or ""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Before)
    except FileNotFoundError:
        return Before(boot_id=boot_id)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: what the settings were cannot be read: {error}; move it away to go on") from None
    return found if found.boot_id == boot_id else Before(boot_id=boot_id, tuned=found.tuned)


def _write(view: HostView, path: str, value: str) -> None:
    """One write, as the kernel takes it. What it refuses (no root, an interrupt that cannot move) is seen when it is
    read back."""
    file = view.root / path.lstrip("/")
    try:
        if path == TUNED_FILE:
            file.parent.mkdir(exist_ok=True)
        file.write_text(value, encoding="utf-8")
    except OSError:
        return


def _read_back(view: HostView, row: Setting) -> Setting:
    return msgspec.structs.replace(row, found=chosen(view.read(row.path) or ""))
