"""The simulator's clocks and lines: order kept, jitter bounded below, real timers finer than a millisecond."""

from __future__ import annotations

import asyncio
import random

from pipeline.sim.exchange.latency import NS_PER_MS, Link, ManualClock, SimClock


def test_virtual_clock_runs_due_actions_in_time_order() -> None:
    clock = ManualClock()
    seen: list[tuple[str, int]] = []
    for name, at_ns in (("late", 30), ("early", 10), ("also early", 10)):
        clock.call_at(at_ns, lambda name=name: seen.append((name, clock.mono_ns())))
    assert clock.advance(20) == 2
    assert seen == [("early", 10), ("also early", 10)]
    clock.advance(20)
    assert seen[-1] == ("late", 30) and clock.mono_ns() == 40


def test_line_jitters_and_never_reorders() -> None:
    clock = ManualClock()
    line = Link(clock, random.Random(3), 500.0, 0.5)
    arrivals = []
    for _ in range(500):
        arrivals.append((clock.mono_ns(), line.arrival_ns()))
        clock.advance(100_000)
    times = [arrival for _, arrival in arrivals]
    assert times == sorted(times) and len(set(times)) == len(times)
    delays = [arrival - sent for sent, arrival in arrivals]
    assert min(delays) > 0
    middle = sorted(delays)[250]
    assert 300_000 < middle < 1_500_000


def test_real_clock_runs_actions_in_order_on_a_loop() -> None:
    async def body(precise: bool) -> list[int]:
        clock = SimClock(asyncio.get_running_loop(), precise=precise)
        seen: list[int] = []
        done = asyncio.get_running_loop().create_future()
        start_ns = clock.mono_ns()
        for index in (3, 1, 2, 0):
            clock.call_at(start_ns + (index + 1) * NS_PER_MS // 2, lambda index=index: seen.append(index))
        clock.call_at(start_ns + 4 * NS_PER_MS, lambda: done.set_result(None))
        await done
        assert clock.mono_ns() >= start_ns + 4 * NS_PER_MS
        clock.close()
        return seen

    assert asyncio.run(body(True)) == [0, 1, 2, 3]
    assert asyncio.run(body(False)) == [0, 1, 2, 3]


def test_sleepers_wake_in_order_on_the_real_clock() -> None:
    async def body() -> list[int]:
        clock = SimClock(asyncio.get_running_loop())
        seen: list[int] = []
        when_ns = clock.mono_ns() + NS_PER_MS

        async def sleeper(index: int) -> None:
            await clock.sleep_until(when_ns)
            seen.append(index)

        await asyncio.gather(*(sleeper(index) for index in range(5)))
        clock.close()
        return seen

    assert asyncio.run(body()) == [0, 1, 2, 3, 4]
