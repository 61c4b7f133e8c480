"""Episodes: one per direction, from the first event with an edge above the minimum to the first at or below it.

Each ends *pushed* (handed to the executor, once) or *refused* under one gate: the first gate that failed in the
evaluation that came furthest (an episode is looked at again on every event of its books and when a proof arrives;
a dislocation that grows through the threshold and then meets an empty balance is an inventory refusal).
"Furthest" is the greatest code, as gates are numbered in the order in which they are asked, but for two: a torn read
(17) counts as nothing passed, and BELOW_MIN_PROFIT (18) is asked before QUEUE_FULL (16), so that an episode that met
both is counted as below the least profit.

A quarantined direction is refused for good: its episode is counted at once and only its end is waited for.

After the executor's report a direction is re-armed: when its cooldown is over and the edge is still there, a new
episode begins. So at any time: opened = pushed + refused + open ones that may still become either.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pipeline.detection.memory import (
    CLOSED,
    DETECTOR,
    DETECTOR_COUNTERS,
    DETECTOR_SETTINGS,
    EPISODE,
    OPEN,
    OPENED_RING,
    PUSHED,
    SETTLED,
)
from pipeline.model.enums import Refusal
from shm.jit import njit_bare
from shm.words import Words

TORN = int(Refusal.TORN)
QUARANTINED = int(Refusal.QUARANTINED)


@njit_bare
def episode_row(mem: Words, episode: int) -> int:
    """Word of the episode's row."""
    return mem[DETECTOR.episodes_off] + episode * EPISODE.WORDS


@njit_bare
def open_episode(mem: Words, episode: int, now_ns: int) -> None:
    """A new episode; a pushed one that is open already ends here (it was counted when it was pushed)."""
    row = episode_row(mem, episode)
    if mem[row + EPISODE.state] == CLOSED:
        count = mem[DETECTOR_COUNTERS.active]
        mem[row + EPISODE.position] = count
        mem[mem[DETECTOR.active_off] + count] = episode
        mem[DETECTOR_COUNTERS.active] = count + 1
    mem[row + EPISODE.state] = OPEN
    mem[row + EPISODE.reason] = 0
    mem[row + EPISODE.opened_ns] = now_ns
    mem[row + EPISODE.evaluated_ns] = 0
    mem[row + EPISODE.rearmed] = 0
    opened = mem[DETECTOR_COUNTERS.opened]
    mem[DETECTOR.opened + (opened & (OPENED_RING - 1))] = episode
    mem[DETECTOR_COUNTERS.opened] = opened + 1


@njit_bare
def close_episode(mem: Words, episode: int) -> None:
    """The edge is gone: counts the refusal unless it has been counted, and takes the EPISODE from the list of open ones
    in DETECTOR memory. One that is closed stays so."""
    row = episode_row(mem, episode)
    if mem[row + EPISODE.state] == CLOSED:
        return
    if mem[row + EPISODE.state] == OPEN:
        mem[DETECTOR_COUNTERS.refused + mem[row + EPISODE.reason]] += 1
        mem[DETECTOR_COUNTERS.ended] += 1
    mem[row + EPISODE.state] = CLOSED
    last = mem[DETECTOR_COUNTERS.active] - 1
    moved = mem[mem[DETECTOR.active_off] + last]
    mem[mem[DETECTOR.active_off] + mem[row + EPISODE.position]] = moved
    mem[episode_row(mem, moved) + EPISODE.position] = mem[row + EPISODE.position]
    mem[DETECTOR_COUNTERS.active] = last


@njit_bare
def note_refusal(mem: Words, episode: int, reason: int, now_ns: int) -> None:
    """Remembers the verdict of one evaluation; the one that came furthest stays."""
    row = episode_row(mem, episode)
    mem[row + EPISODE.evaluated_ns] = now_ns
    known = mem[row + EPISODE.reason]
    if known == 0 or known == TORN or (reason != TORN and reason > known):
        mem[row + EPISODE.reason] = reason
    if reason == QUARANTINED:
        mem[row + EPISODE.state] = SETTLED
        mem[row + EPISODE.reason] = QUARANTINED
        mem[DETECTOR_COUNTERS.refused + QUARANTINED] += 1
        mem[DETECTOR_COUNTERS.ended] += 1


@njit_bare
def note_pushed(mem: Words, episode: int, now_ns: int) -> None:
    """The episode went to the executor: once, and the direction cools down from now."""
    row = episode_row(mem, episode)
    mem[row + EPISODE.state] = PUSHED
    mem[row + EPISODE.evaluated_ns] = now_ns
    mem[row + EPISODE.cooldown_until_ns] = max(
        mem[row + EPISODE.cooldown_until_ns], now_ns + mem[DETECTOR_SETTINGS.cooldown_ns]
    )
    mem[DETECTOR_COUNTERS.pushed] += 1


@njit_bare
def may_be_looked_at(mem: Words, episode: int, now_ns: int) -> bool:
    """False for one that is settled, and for a pushed one that the executor has not reported on or that cools down."""
    row = episode_row(mem, episode)
    if mem[row + EPISODE.state] != PUSHED:
        return mem[row + EPISODE.state] != SETTLED
    return mem[row + EPISODE.rearmed] != 0 and now_ns >= mem[row + EPISODE.cooldown_until_ns]
