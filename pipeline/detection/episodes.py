"""Episodes: one per direction, from the first event with an edge above the minimum to the first at or below it.

Each ends *pushed* (handed to the executor, once) or *refused* under one gate: the first gate that failed in the
evaluation that came furthest (an episode is looked at again on every event of its books and when a proof arrives;
a dislocation that grows through the threshold and then meets an empty balance is an inventory refusal).
Gates are numbered in their order, so "furthest" is the greatest code; a torn read counts as nothing passed.

A quarantined direction is refused for good: its episode is counted at once and only its end is waited for.

After the executor's report a direction is re-armed: when its cooldown is over and the edge is still there, a new
episode begins. So at any time: opened = pushed + refused + open ones that may still become either.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.memory import (
    C_ACTIVE,
    C_ENDED,
    C_OPENED,
    C_PUSHED,
    C_REFUSED,
    CLOSED,
    EP_COOLDOWN_UNTIL_NS,
    EP_EVALUATED_NS,
    EP_OPENED_NS,
    EP_POSITION,
    EP_REARMED,
    EP_REASON,
    EP_STATE,
    EP_WORDS,
    H_ACTIVE,
    H_EPISODES,
    OPEN,
    OPENED,
    OPENED_RING,
    PUSHED,
    SE_COOLDOWN_NS,
    SETTLED,
)
from pipeline.model.enums import Refusal
from shm.jit import njit_bare

Words = npt.NDArray[np.int64]

TORN = int(Refusal.TORN)
QUARANTINED = int(Refusal.QUARANTINED)


@njit_bare
def episode_row(mem: Words, episode: int) -> int:
    """Word of the episode's row."""
    return mem[H_EPISODES] + episode * EP_WORDS


@njit_bare
def open_episode(mem: Words, episode: int, now_ns: int) -> None:
    """A new episode; a pushed one that is open already ends here (it was counted when it was pushed)."""
    row = episode_row(mem, episode)
    if mem[row + EP_STATE] == CLOSED:
        count = mem[C_ACTIVE]
        mem[row + EP_POSITION] = count
        mem[mem[H_ACTIVE] + count] = episode
        mem[C_ACTIVE] = count + 1
    mem[row + EP_STATE] = OPEN
    mem[row + EP_REASON] = 0
    mem[row + EP_OPENED_NS] = now_ns
    mem[row + EP_EVALUATED_NS] = 0
    mem[row + EP_REARMED] = 0
    opened = mem[C_OPENED]
    mem[OPENED + (opened & (OPENED_RING - 1))] = episode
    mem[C_OPENED] = opened + 1


@njit_bare
def close_episode(mem: Words, episode: int) -> None:
    """The edge is gone: counts the refusal unless it has been counted, and leaves the list of open ones."""
    row = episode_row(mem, episode)
    if mem[row + EP_STATE] == CLOSED:
        return
    if mem[row + EP_STATE] == OPEN:
        mem[C_REFUSED + mem[row + EP_REASON]] += 1
        mem[C_ENDED] += 1
    mem[row + EP_STATE] = CLOSED
    last = mem[C_ACTIVE] - 1
    moved = mem[mem[H_ACTIVE] + last]
    mem[mem[H_ACTIVE] + mem[row + EP_POSITION]] = moved
    mem[episode_row(mem, moved) + EP_POSITION] = mem[row + EP_POSITION]
    mem[C_ACTIVE] = last


@njit_bare
def note_refusal(mem: Words, episode: int, reason: int, now_ns: int) -> None:
    """Remembers the verdict of one evaluation; the one that came furthest stays."""
    row = episode_row(mem, episode)
    mem[row + EP_EVALUATED_NS] = now_ns
    known = mem[row + EP_REASON]
    if known == 0 or known == TORN or (reason != TORN and reason > known):
        mem[row + EP_REASON] = reason
    if reason == QUARANTINED:
        mem[row + EP_STATE] = SETTLED
        mem[row + EP_REASON] = QUARANTINED
        mem[C_REFUSED + QUARANTINED] += 1
        mem[C_ENDED] += 1


@njit_bare
def note_pushed(mem: Words, episode: int, now_ns: int) -> None:
    """The episode went to the executor: once, and the direction cools down from now."""
    row = episode_row(mem, episode)
    mem[row + EP_STATE] = PUSHED
    mem[row + EP_EVALUATED_NS] = now_ns
    mem[row + EP_COOLDOWN_UNTIL_NS] = max(mem[row + EP_COOLDOWN_UNTIL_NS], now_ns + mem[SE_COOLDOWN_NS])
    mem[C_PUSHED] += 1


@njit_bare
def may_be_looked_at(mem: Words, episode: int, now_ns: int) -> bool:
    """False for one that is settled, and for a pushed one that the executor has not reported on or that cools down."""
    row = episode_row(mem, episode)
    if mem[row + EP_STATE] != PUSHED:
        return mem[row + EP_STATE] != SETTLED
    return mem[row + EP_REARMED] != 0 and now_ns >= mem[row + EP_COOLDOWN_UNTIL_NS]
