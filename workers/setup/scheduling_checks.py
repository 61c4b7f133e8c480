"""Rows of ``arb doctor`` about CPU time: who else takes it, and how steadily a spinning process gets it."""

from __future__ import annotations

import os
from decimal import Decimal
from time import clock_gettime_ns

from pipeline.model.clock import mono_ns
from pipeline.model.config import EngineConfig
from pipeline.model.enums import WaitStrategy
from workers.setup.checks import Check, State
from workers.setup.host_checks import HostView

JITTER_S = 0.3
JITTER_WARN_US = 1000  # a gap that an order path of 100 us feels
JITTER_FAIL_US = 50_000  # books are too old to trade on (100 ms) after two of them
THREAD_CPU = 3  # the clock of the CPU time of the calling thread, by its number in Linux


def scheduling_checks(view: HostView, config: EngineConfig | None) -> list[Check]:
    """All rows of this file; the last one spins for a third of a second."""
    pinned = sorted({cpu for process in (config.processes.values() if config else ()) for cpu in process.cpus})
    return [
        _isolation(view, pinned),
        _interrupts(view, pinned),
        _real_time(view),
        *_cgroup(view),
        jitter(spins=config is not None and any(p.wait is WaitStrategy.SPIN for p in config.processes.values())),
    ]


def cpu_set(text: str) -> set[int]:
    """CPUs of a kernel list, as ``0-2,5``; {} for an empty one."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit():
            found |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return found


def _isolation(view: HostView, pinned: list[int]) -> Check:
    fix = "boot with isolcpus=managed_irq,domain,N nohz_full=N rcu_nocbs=N for the CPUs of processes.*.cpus"
    reported = view.read("/sys/devices/system/cpu/isolated")
    if reported is None:
        return Check("isolated CPUs", State.UNKNOWN, "not shown", "the pinned CPUs", fix)
    isolated = cpu_set(reported)
    tickless = cpu_set(view.read("/sys/devices/system/cpu/nohz_full") or "")
    found = f"isolated {reported or 'none'}, without tick {','.join(map(str, sorted(tickless))) or 'none'}"
    if not pinned:
        return Check("isolated CPUs", State.OK, f"{found}; no process is pinned", "-", fix)
    missing = sorted(set(pinned) - isolated)
    state = State.WARN if missing else State.OK
    return Check("isolated CPUs", state, found, ",".join(map(str, pinned)), fix)


def _interrupts(view: HostView, pinned: list[int]) -> Check:
    fix = "set IRQBALANCE_BANNED_CPULIST, and /proc/irq/N/smp_affinity_list to CPUs that no process is pinned to"
    lists = view.paths("/proc/irq/*/smp_affinity_list")
    if not lists:
        return Check("interrupts", State.UNKNOWN, "/proc/irq is not shown", "not on pinned CPUs", fix)
    if not pinned:
        return Check("interrupts", State.OK, f"{len(lists)}; no process is pinned", "not on pinned CPUs", fix)
    on = []
    for path in lists:
        reported = view.read(str(path.relative_to(view.root)))
        if reported and cpu_set(reported) & set(pinned):
            on.append(path.parent.name)
    state = State.WARN if on else State.OK
    found = f"{len(on)} of {len(lists)} may come to CPUs {','.join(map(str, pinned))}"
    return Check("interrupts", state, found, "not on pinned CPUs", fix)


def _real_time(view: HostView) -> Check:
    """A spinning SCHED_FIFO process is stopped for 50 ms a second where the kernel keeps its default."""
    policy = os.sched_getscheduler(0)
    reported = view.read("/proc/sys/kernel/sched_rt_runtime_us")
    if policy not in (os.SCHED_FIFO, os.SCHED_RR):
        return Check("real-time throttling", State.OK, "no real-time policy is used", "-", "")
    state = State.OK if reported == "-1" else State.WARN
    return Check("real-time throttling", state, reported or "not shown", "-1", "sysctl kernel.sched_rt_runtime_us=-1")


def _cgroup(view: HostView) -> list[Check]:
    """Limits of CPU time and memory of our cgroup (version 2, or 1), and how often it was throttled."""
    v2, v1_cpu, v1_memory = _cgroup_folders(view)
    want, fix = "no limit", "remove CPUQuota= and MemoryMax= of the unit or container, or raise them"
    quota, period = "max", ""
    reported = view.read(f"{v2}/cpu.max") if v2 else None
    if reported is not None:
        quota, _, period = reported.partition(" ")
    elif v1_cpu:
        quota = view.read(f"{v1_cpu}/cpu.cfs_quota_us") or "max"
        period = view.read(f"{v1_cpu}/cpu.cfs_period_us") or ""
    rows = []
    if quota in ("max", "-1") or not quota.isdigit() or not period.isdigit():
        rows.append(Check("CPU limit of the cgroup", State.OK, "none", want, fix))
    else:
        text = f"{Decimal(quota) / Decimal(period):.2f} CPUs"
        rows.append(Check("CPU limit of the cgroup", State.WARN, text, want, fix))
    throttled = _counter(view.read(f"{v2}/cpu.stat") if v2 else None) or _counter(
        view.read(f"{v1_cpu}/cpu.stat") if v1_cpu else None
    )
    if throttled:
        text = f"throttled {throttled} times so far"
        rows.append(Check("scheduler throttling", State.WARN, text, "never", fix))
    else:
        rows.append(Check("scheduler throttling", State.OK, "never", "never", fix))
    limit = (view.read(f"{v2}/memory.max") if v2 else None) or (
        view.read(f"{v1_memory}/memory.limit_in_bytes") if v1_memory else None
    )
    if limit and limit.isdigit() and int(limit) < 1 << 50:
        state = State.WARN if int(limit) < 4 * 1024**3 else State.OK
        rows.append(Check("memory limit of the cgroup", state, f"{int(limit) / 1024**3:.1f} GiB", "4 GiB or none", fix))
    return rows


def _counter(stat: str | None) -> int:
    for line in (stat or "").splitlines():
        name, _, count = line.partition(" ")
        if name == "nr_throttled" and count.isdigit():
            return int(count)
    return 0


def _cgroup_folders(view: HostView) -> tuple[str, str, str]:
    """(version 2, CPU of version 1, memory of version 1) folders of our cgroup; "" where there is none."""
    v2 = cpu = memory = ""
    for line in (view.read(f"/proc/{view.pid}/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            v2 = f"/sys/fs/cgroup{path}".rstrip("/")
        if "cpu" in controllers.split(","):
            cpu = f"/sys/fs/cgroup/cpu{path}".rstrip("/")
        if "memory" in controllers.split(","):
            memory = f"/sys/fs/cgroup/memory{path}".rstrip("/")
    return v2, cpu, memory


def jitter(seconds: float = JITTER_S, *, spins: bool) -> Check:
    """Spin, and take the longest time in which this process did not run: what a spinning detector would see. ``spins``:
    whether a process is configured to; where all park a gap is a warning."""
    end = mono_ns() + int(seconds * 1e9)
    worst = 0
    cpu_before = clock_gettime_ns(THREAD_CPU)
    begin = last = mono_ns()
    while last < end:
        now = mono_ns()
        worst = max(worst, now - last)
        last = now
    share = (clock_gettime_ns(THREAD_CPU) - cpu_before) / max(1, last - begin)
    worst_us = worst // 1000
    state = State.OK if worst_us < JITTER_WARN_US else State.WARN
    if spins and worst_us >= JITTER_FAIL_US:
        state = State.FAIL
    found = f"longest gap {worst_us} us in {seconds:g} s, {share:.0%} of a CPU"
    fix = "leave a CPU to each spinning process (isolated CPUs), stop what else runs, or wait: park"
    return Check("spinning jitter", state, found, f"below {JITTER_WARN_US} us", fix)
