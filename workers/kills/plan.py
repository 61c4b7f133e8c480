"""What a seed's run is hurt by, and when: plain data, the same for a seed for ever.

Deaths come at named points (``ARB_CRASH_AT``), in states that are waited for, and at any time. A third of the seeds
trades with the windows of production, the others with short ones.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.chaos.schedule import symbol_of
from pipeline.execution.crash_points import GUARD, GUARD_POINTS, LAUNCH_POINTS, POINTS, SUPERVISOR_POINTS
from pipeline.sim.scenarios.specs import load_scenario
from workers.kills.rig import BrokenInstance

EXCHANGES = load_scenario("demo").exchanges
PROCESSES = ("executor", "detector", *(f"feed.{name}" for name in EXCHANGES), "poller", "recorder", "guard")
WEIGHTS = (6, 2, 2, 2, 1, 1, 2)
VENUES = tuple(f"{name}_{market}" for name, spec in EXCHANGES.items() for market in spec.venues)
FUTURES = next(venue for venue in VENUES if venue.endswith("_futures"))
KILLS_MAX = 3  # of one process in a run: five within a minute are a storm, and that is another test
ONCE_A_LIFE = ("boot_replayed", "reconciled")
#: Windows within which what is unknown is decided in two seconds.
PROFILE: dict[str, dict[str, Any]] = {
    "execution": {"entry_window_ms": 800, "unknown_grace_ms": 1200},
    "risk_limits": {"max_orders_per_s": 100},
}
HANG_S = 2.5  # of an executor: longer than the guard waits
POINTS_A_RUN = 4


@dataclass
class Step:
    """Something that happens ``at_s`` after READY."""

    at_s: float
    what: str
    do: Callable[[BrokenInstance], object]


@dataclass
class Plan:
    """``crash_at``: the variable of the first instance's processes; ``config``: sections that are not the demo's."""

    seed: int
    crash_at: str
    config: dict[str, Any]
    steps: list[Step]

    def lines(self) -> list[str]:
        """For whoever looks for what broke."""
        windows = "short" if "execution" in self.config and "entry_window_ms" in self.config["execution"] else "long"
        words = [f"ARB_CRASH_AT={self.crash_at}", f"windows: {windows}"]
        return words + [f"{step.at_s:.1f} {step.what}" for step in self.steps]


def venue_trouble(rng: random.Random) -> dict[str, Any]:
    """One fault rule."""
    venue = rng.choice(VENUES)
    some = {"venue": venue, "count": rng.randint(1, 4)}
    place = {**some, "target": "place"}
    private = {**some, "target": "private"}
    rules: dict[str, dict[str, Any]] = {
        "drop_response": place,
        "drop_request": place,
        "http_error_after": {**place, "status": rng.choice([500, 502, 504])},
        "http_error": {**place, "status": rng.choice([500, 503])},
        "rate_limit": {**place, "count": 1, "retry_after_s": 1.0},
        "delay_request": {**place, "delay_ms": rng.choice([100, 600, 1500, 2600])},
        "delay_response": {**place, "delay_ms": rng.choice([100, 600, 1500, 2600])},
        "reject": {**place, "reason": "insufficient_balance"},
        "disconnect": {"venue": venue, "target": rng.choice(["public", "private", "all"])},
        "stall_private": {"kind": "stall", "venue": venue, "target": "private", "duration_ms": rng.randint(300, 3000)},
        "stall_public": {"kind": "stall", "venue": venue, "target": "public", "duration_ms": rng.randint(300, 3000)},
        "drop_event": {**private, "count": rng.randint(1, 12)},
        "duplicate_event": {**private, "count": rng.randint(1, 12)},
        "reorder_event": {**private, "count": rng.randint(1, 12)},
        "drop_delta": {**some, "target": "depth"},
        "crossed_delta": {**some, "target": "depth"},
        "corrupt": {**some, "target": rng.choice(["public", "private"])},
        "bad_number": {**some, "target": "public"},
        "refuse_connect": {**some, "target": rng.choice(["public", "private"]), "status": 429},
        "questions": {"kind": "http_error", "venue": venue, "count": 8, "status": 503, "duration_ms": 3000,
                      "target": rng.choice(["order", "trades", "finished_orders", "open_orders", "balances"])},
        "funding": {"venue": FUTURES},
        "halt_symbol": {"venue": venue, "symbol": symbol_of(venue, rng.choice(["BTC", "ETH", "SOL"]))},
        "delay_stream": {"venue": venue, "target": rng.choice(["private", "public"]),
                         "delay_ms": rng.choice([300, 1500]), "duration_ms": 2500},
    }  # fmt: skip
    kind = rng.choice(list(rules))
    return {"kind": kind, **rules[kind]}


def crash_at(seed: int) -> str:
    """Points of a seed: each in turn over the seeds. The first life of a process dies or stands still at one of them,
    its next at another."""
    rng = random.Random(f"{seed}:points")
    usual = [point for point in POINTS if point not in ONCE_A_LIFE]
    parts, lives = [], Counter[str]()
    for number in range(POINTS_A_RUN):
        point = usual[(seed * POINTS_A_RUN + number) % len(usual)]
        process = point.partition("_")[0] if point.startswith((GUARD, "supervisor_")) else "executor"
        lives[process] += 1
        if process == "supervisor" and lives[process] > 1:
            continue  # its next life is another instance's
        end = rng.choices(["", ",stop", f",sleep={rng.choice([300, 900, 2500])}", ",raise"], [6, 2, 2, 1])[0]
        if process != "executor":
            end = "" if end == ",raise" else end  # an error of theirs is a storm or a stop, not a death
        if point in LAUNCH_POINTS:
            end = ""
        if process == "supervisor":
            end = rng.choice(["", ",sleep=900"])
        parts.append(f"{point}:{_passing(point, rng)},life={lives[process]}{end}")
    return ";".join(parts)


def _passing(point: str, rng: random.Random) -> int:
    if point == "guard_lease":
        return rng.randint(20, 60)
    if point.startswith(GUARD) or point in ("rotating", "rotated", "cancel_sent", "expired_journalled"):
        return 1
    if point in SUPERVISOR_POINTS:
        return {"supervisor_spawned": rng.randint(2, 9)}.get(point, rng.randint(1, 2))
    return rng.randint(2, 3 if point == "sweep_answered" else 9)


def _killed(process: str, rig: BrokenInstance) -> None:
    rig.kill(process)


def _armed(rule: dict[str, Any], rig: BrokenInstance) -> None:
    rig.fault(**rule)


def _instance_killed(rig: BrokenInstance) -> None:
    rig.kill_instance()
    rig.start_again()


def _instance_stopped(rig: BrokenInstance) -> None:
    rig.engine.stop()
    rig.start_again()


def plan(seed: int, seconds: float) -> Plan:
    """The run's trouble, in order of time."""
    rng = random.Random(seed)
    steps: list[Step] = []

    def add(what: str, do: Callable[[BrokenInstance], object]) -> None:
        steps.append(Step(rng.uniform(0.5, seconds), what, do))

    killed: Counter[str] = Counter()
    for _ in range(rng.randint(3, 5)):
        process = rng.choices(PROCESSES, WEIGHTS)[0]
        killed[process] += 1
        if killed[process] <= KILLS_MAX:
            add(f"kill {process}", partial(_killed, process))
    venue = rng.choice(VENUES)
    add(f"kill executor with a leg to {venue} in flight", lambda rig: rig.kill_in_flight(venue))
    if rng.random() < 0.4:
        victim = rng.choice(["executor", "guard"])
        state = rng.choice(["unsettled_orders", "open_hedges"])
        add(f"kill {victim} with {state}", lambda rig: rig.kill_in_state(victim, state))
    crash = crash_at(seed)
    if any(point in crash for point in (*GUARD_POINTS[1:], GUARD + "repair", GUARD + "sent")) or rng.random() < 0.25:
        add("hang executor with one leg filled", lambda rig: rig.hang_in_flight(venue, HANG_S))
    process, pause_s = rng.choices(PROCESSES, WEIGHTS)[0], rng.choice([0.2, 0.7, 1.5, 3.0])
    add(f"stop {process} for {pause_s} s", lambda rig: rig.pause(process, pause_s))
    for _ in range(rng.randint(2, 6)):
        rule = venue_trouble(rng)
        words = " ".join(f"{key}={value}" for key, value in rule.items() if key != "kind")
        add(f"{rule['kind']} {words}", partial(_armed, rule))
    fate = rng.random()
    if fate < 0.2:
        add("kill the instance, start it again", _instance_killed)
    elif fate < 0.3:
        add("kill the fork server", lambda rig: rig.kill_fork_server())
    elif fate < 0.4:
        add("stop the instance, start it again", _instance_stopped)
    if rng.random() < 0.3:
        add("halt for a second", lambda rig: rig.halted(1.0))
    segment = {"journal_segment_bytes": 64 * 1024 if seed % 2 else 4 * 1024 * 1024}
    config = {"execution": segment, "risk_limits": PROFILE["risk_limits"]}
    if seed % 3:
        config["execution"] = {**segment, **PROFILE["execution"]}
    return Plan(seed, crash, config, sorted(steps, key=lambda step: step.at_s))
