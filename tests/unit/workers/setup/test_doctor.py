"""Rows of `arb doctor` on hosts that files describe, and clocks that differ."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.exchanges.transport import openssl
from pipeline.model.clock import wall_ms
from pipeline.model.config import EngineConfig, ProcessConfig
from pipeline.model.enums import WaitStrategy
from pipeline.model.structs import KeyRights
from shm.segment import Segment, segment_name
from workers.setup.account_answer import withdraw_row
from workers.setup.checks import Check, State
from workers.setup.host_checks import HostView, host_checks, segments_by_owner
from workers.setup.network_checks import NTP_TO_UNIX_S, clock_row, network_checks
from workers.setup.scheduling_checks import cpu_set, jitter, scheduling_checks

PINNED = EngineConfig(processes={"detector": ProcessConfig(cpus=(1,), wait=WaitStrategy.SPIN)})


def host(root: Path, **files: str) -> HostView:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return HostView(root=root, pid=1)


def rows(found: list[Check]) -> dict[str, Check]:
    return {row.name: row for row in found}


def test_a_tuned_host_is_ok(tmp_path: Path) -> None:
    view = host(
        tmp_path,
        sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="performance\n",
        sys__devices__system__clocksource__clocksource0__current_clocksource="tsc\n",
        sys__kernel__mm__transparent_hugepage__enabled="always madvise [never]\n",
        sys__devices__system__cpu__isolated="1-3\n",
        sys__devices__system__cpu__nohz_full="1-3\n",
        proc__irq__24__smp_affinity_list="0\n",
        proc__meminfo="MemTotal: 9 kB\nMemAvailable: 8000000 kB\n",
        proc__swaps="Filename\n/swap file 1 0 -2\n",
        proc__sys__vm__swappiness="10\n",
        proc__1__cgroup="0::/arb\n",
        sys__fs__cgroup__arb__cpu_max="",
    )
    found = rows([*host_checks(view, PINNED, "x"), *scheduling_checks(view, PINNED)])
    for name in (
        "governor", "clock source", "transparent huge pages", "isolated CPUs", "interrupts", "memory", "swappiness",
        "CPU limit of the cgroup", "scheduler throttling",
    ):  # fmt: skip
        assert found[name].state is State.OK, found[name]


def test_a_host_that_hurts_is_warned_of_with_the_fix(tmp_path: Path) -> None:
    view = host(
        tmp_path,
        sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="powersave\n",
        sys__devices__system__clocksource__clocksource0__current_clocksource="hpet\n",
        sys__kernel__mm__transparent_hugepage__enabled="[always] madvise never\n",
        sys__devices__system__cpu__isolated="\n",
        proc__irq__24__smp_affinity_list="0-3\n",
        proc__irq__25__smp_affinity_list="0\n",
        proc__meminfo="MemAvailable: 1000 kB\n",
        proc__swaps="Filename\n/swap file 1 0 -2\n",
        proc__sys__vm__swappiness="60\n",
        proc__1__cgroup="4:memory:/a\n3:cpu,cpuacct:/a\n",
    )
    cpu, memory = tmp_path / "sys/fs/cgroup/cpu/a", tmp_path / "sys/fs/cgroup/memory/a"
    for folder in (cpu, memory):
        folder.mkdir(parents=True)
    (cpu / "cpu.cfs_quota_us").write_text("150000\n")
    (cpu / "cpu.cfs_period_us").write_text("100000\n")
    (cpu / "cpu.stat").write_text("nr_periods 9\nnr_throttled 4\n")
    (memory / "memory.limit_in_bytes").write_text(str(2 * 1024**3))
    found = rows([*host_checks(view, PINNED, "x"), *scheduling_checks(view, PINNED)])
    for name, said in (
        ("governor", "powersave"), ("clock source", "hpet"), ("transparent huge pages", "always"),
        ("isolated CPUs", "isolated none"), ("interrupts", "1 of 2 may come to CPUs 1"), ("memory", "1 MiB available"),
        ("swappiness", "60"), ("CPU limit of the cgroup", "1.50 CPUs"), ("scheduler throttling", "throttled 4 times"),
        ("memory limit of the cgroup", "2.0 GiB"),
    ):  # fmt: skip
        assert found[name].state is State.WARN and said in found[name].found, found[name]
        assert found[name].fix


def test_a_libssl_that_cannot_be_called_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows(host_checks(host(tmp_path), PINNED, "x"))["orders over TLS"].state is State.OK
    monkeypatch.setattr(openssl, "_found", lambda: (None, "undefined symbol: SSL_write"))
    row = rows(host_checks(host(tmp_path), PINNED, "x"))["orders over TLS"]
    assert row.state is State.WARN and row.found == "undefined symbol: SSL_write" and "Python" in row.fix


def test_what_a_host_does_not_show_is_unknown(tmp_path: Path) -> None:
    found = rows([*host_checks(host(tmp_path), PINNED, "x"), *scheduling_checks(host(tmp_path), PINNED)])
    for name in ("governor", "clock source", "transparent huge pages", "isolated CPUs", "interrupts", "memory"):
        assert found[name].state is State.UNKNOWN, found[name]


@pytest.mark.parametrize(
    ("text", "cpus"), [("", set()), ("3", {3}), ("0-2,5", {0, 1, 2, 5}), ("x", set()), ("1-1\n", {1})]
)
def test_lists_of_cpus(text: str, cpus: set[int]) -> None:
    assert cpu_set(text) == cpus


def test_a_gap_fails_only_where_a_process_spins() -> None:
    assert jitter(0.001, spins=False).state in (State.OK, State.WARN)
    assert "longest gap" in jitter(0.001, spins=True).found


@pytest.mark.parametrize(
    ("trip_ms", "offset_ms", "state"),
    [
        (2, 3, State.OK), (2, -51, State.OK), (2, 90, State.WARN), (2, -700, State.FAIL), (400, 240, State.OK),
    ],
)  # fmt: skip
def test_a_clock_is_judged_by_what_is_certain(trip_ms: int, offset_ms: int, state: State) -> None:
    assert clock_row("c", trip_ms * 1_000_000, offset_ms).state is state


def test_the_right_to_withdraw_is_never_ok_where_nobody_told() -> None:
    assert withdraw_row("k", KeyRights()).state is State.UNKNOWN
    assert withdraw_row("k", KeyRights(withdraw=True)).state is State.FAIL
    assert withdraw_row("k", KeyRights(withdraw=False)).state is State.OK


LEFT = """
import os, sys
from shm.segment import Segment, segment_name
made = Segment.create(segment_name(sys.argv[1], "left"), size_words=8192, kind=1, instance=sys.argv[1])
os._exit(0)
"""


def test_segments_are_counted_by_their_owners_life(instance: str) -> None:
    living = Segment.create(segment_name(instance, "living"), size_words=8192, kind=1, instance=instance)
    subprocess.run([sys.executable, "-c", LEFT, instance], check=True)
    assert segments_by_owner()[instance] == (1, 1)
    living.unlink()
    assert segments_by_owner()[instance] == (0, 1)


@contextmanager
def ntp_server(offset_s: int) -> Iterator[str]:
    """Answers one SNTP question with our clock and ``offset_s``."""
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.bind(("127.0.0.1", 0))

    def serve() -> None:
        _, sender = link.recvfrom(128)
        now = wall_ms() + offset_s * 1000
        stamp = struct.pack("!II", now // 1000 + NTP_TO_UNIX_S, (now % 1000 << 32) // 1000)
        link.sendto(b"\x24\x02" + bytes(38) + stamp, sender)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{link.getsockname()[1]}"
    finally:
        thread.join()
        link.close()


@pytest.mark.parametrize(("offset_s", "state"), [(0, State.OK), (-3, State.FAIL)])
def test_the_clock_is_compared_with_ntp(offset_s: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.setup.network_checks.CLOCK_WARN_MS", 2000)  # a slow way is no wrong clock
    monkeypatch.setattr("workers.setup.network_checks.CLOCK_FAIL_MS", 2000)
    with ntp_server(offset_s) as address:
        (row,) = asyncio.run(network_checks(EngineConfig(), "x", address))
    assert (row.name, row.state) == ("clock against NTP", state)


def test_a_silent_ntp_server_is_unknown() -> None:
    (row,) = asyncio.run(network_checks(EngineConfig(), "x", "127.0.0.1:1"))
    assert row.state is State.UNKNOWN
