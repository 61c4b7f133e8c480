"""What is closed in a stop: hedges before the executor ends, where ``guard.on_stop`` says so; after its end the guard
ends what is half done, and a takeover under way is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.enums import OnLoss
from pipeline.model.errors import ArbitrageEngineError
from workers.control_plane.children import STOP_ORDER, Child, Children
from workers.control_plane.stopping import GROUP_S, answered
from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halt_file import read_halt
from workers.last_run.half_done import half_done

EXECUTOR_SOCKET = "executor.sock"
EXECUTOR_S = 25.0  # it answers a flatten after about 10 s, where it has just been started after 20; and some
ANSWER_S = 10.0  # and is not asked again where it could not answer in time
GUARD_S = 5.0  # it answers at once
CLOSING_S = 15.0  # of the guard, when every order in flight is proved: repairs, a forced close
LAST_LOOK_S = 5.0  # what is open is read from the journals once more, so that it can be said, however late it is
END_S = 10.0  # last words by a replay of the journal, its file shortened, sockets and segments closed
PROOF_MARGIN_S = 2.0  # a whole sweep after the time from which it may prove that an order never was
FLATTENS_MAX = 3
POLL_S = 0.1
REASON = "stop with hedges as configured"
HALF_DONE = "stop with operations half done"


class StopClosing:
    """The closings of one stop. ``show`` brings ``run.json`` up to what was said, which `arb stop` shows meanwhile."""

    def __init__(
        self,
        config: EngineConfig,
        children: Children,
        state_dir: Path,
        say: Callable[[str, str], None],
        show: Callable[[], None],
    ) -> None:
        self._config = config
        self._children = children
        self._state_dir = state_dir
        self._say_line = say
        self._show = show
        self._left_s = closings_s(config)  # of both closings; what comes between them has a time of its own

    def _say(self, level: str, text: str) -> None:
        self._say_line(level, text)
        self._show()

    async def before(self, group: Sequence[Child], keep_up: Callable[[], None]) -> None:
        """Closes open hedges before ``group`` stops, where it has the executor and that is configured: an executor that
        is READY needs no guard for it."""
        if self._config.guard.on_stop is OnLoss.FLATTEN and _has_executor(group):
            with self._goes_on(), self._timed() as deadline_s:
                can_come = self._guard_can_come(keep_up)
                await close_hedges(self._state_dir, self._config, self._say, can_come, deadline_s)

    def _guard_can_come(self, keep_up: Callable[[], None]) -> Callable[[], bool]:
        def guard_can_come() -> bool:
            keep_up()
            guard = self._children["guard"]
            return guard.wanted and not guard.is_failed()

        return guard_can_come

    async def after(self, group: Sequence[Child], keep_up: Callable[[], None]) -> None:
        """Where ``group`` had the executor: see :func:`finish_half_done`."""
        if self._children["guard"].wanted and _has_executor(group):
            with self._goes_on(), self._timed() as deadline_s:
                can_come = self._guard_can_come(keep_up)
                await finish_half_done(self._state_dir, self._config, self._say, can_come, deadline_s)

    @contextlib.contextmanager
    def _goes_on(self) -> Iterator[None]:
        """The other processes are stopped in order whatever fails here."""
        try:
            yield
        except (ArbitrageEngineError, OSError, msgspec.MsgspecError, KeyError, RuntimeError) as error:  # or no thread
            self._say("error", f"what is open is not ended before the stop: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def _timed(self) -> Iterator[float]:
        """Until when one closing may take, monotonic; what it took is gone from the other one's time."""
        begin_s = time.monotonic()
        try:
            yield begin_s + self._left_s
        finally:
            self._left_s -= time.monotonic() - begin_s


def closings_s(config: EngineConfig) -> float:
    """How long both closings of a stop may take: one by the executor that hangs, then the guard's."""
    return EXECUTOR_S + guard_bound_s(config)


def stop_bound_s(config: EngineConfig) -> float:
    """The longest orderly stop: what is open is closed, and each group of processes may have to be killed.

    The sum of what the code waits for. Whoever ends this process from outside must give it more: ``TimeoutStopSec`` of
    its unit, ``stop_grace_period`` and ``terminationGracePeriodSeconds`` of its container.
    """
    return closings_s(config) + LAST_LOOK_S + len(STOP_ORDER) * GROUP_S + END_S


def stop_notice(config: EngineConfig) -> str:
    """What systemd is told of a stop: longer windows than usual may make it longer than ``TimeoutStopSec``."""
    return f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(stop_bound_s(config) * 1e6)}"


def _has_executor(group: Sequence[Child]) -> bool:
    return any(child.process == "executor" for child in group)


def guard_bound_s(config: EngineConfig) -> float:
    """How long the guard may need where no executor is READY: an order without an answer is proved first."""
    execution = config.execution
    window_ms = max(
        execution.entry_window_ms, 2 * execution.repair_window_ms
    )  # a slow venue's repair has twice its own
    proof_ms = window_ms + execution.unknown_grace_ms + execution.max_clock_skew_ms
    return proof_ms / 1000 + PROOF_MARGIN_S + CLOSING_S


async def close_hedges(
    state_dir: Path,
    config: EngineConfig,
    say: Callable[[str, str], None],
    keep_up: Callable[[], bool],
    deadline_s: float,
) -> None:
    """Closes every hedge as far as it can be closed until ``deadline_s`` (monotonic), and says what stays open. The
    detector has stopped. ``keep_up``: as of :func:`finish_half_done`."""
    while True:
        try:
            left = await _by_executor(state_dir, deadline_s - guard_bound_s(config), deadline_s)
            break
        except ControlError as error:
            missing = str(error)
        try:
            left = await _by_guard(state_dir, deadline_s)
            break
        except ControlError as error:  # it is started again, or the executor has become READY meanwhile
            if not keep_up() or time.monotonic() > deadline_s:
                say("error", f"hedges are not closed before the stop: {missing}; guard: {error}")
                return
        await asyncio.sleep(POLL_S)
    for hedge, reason in left.items():
        say("warning", f"hedge {hedge} stays open: {reason or 'not closed in time'}")


async def _by_executor(state_dir: Path, again_s: float, deadline_s: float) -> dict[str, str]:
    """The hedges that stay open, and why. Asked again it is until ``again_s``: what follows is the guard's time."""
    left: dict[str, str] | None = None
    by_s = deadline_s
    for _ in range(FLATTENS_MAX):  # one answer may come before an order without an answer is proved
        request = {"op": "flatten", "reason": REASON}
        try:
            reply = await _asked(state_dir / EXECUTOR_SOCKET, request, EXECUTOR_S, by_s)
        except ControlError:
            if left is None or time.monotonic() < again_s:  # it has died, or begins anew: what is left is the guard's
                raise
            break
        left, by_s = {row["hedge_id"]: row["reason"] for row in reply["hedges"] if not row["closed"]}, again_s
        if not left or time.monotonic() + ANSWER_S > again_s:
            break
    return left or {}


async def _by_guard(state_dir: Path, deadline_s: float) -> dict[str, str]:
    """The same, of the guard; it leaves no latch, as the stop is planned."""
    request: dict[str, Any] = {"op": "close", "ids": None, "reason": REASON, "planned": True}
    reply = await _asked(state_dir / GUARD_SOCKET, request, GUARD_S, deadline_s)
    while reply["taking_over"]:
        await asyncio.sleep(POLL_S)
        if time.monotonic() >= deadline_s:
            break
        reply = await _asked(state_dir / GUARD_SOCKET, {"op": "takeover"}, GUARD_S, deadline_s)
    left: dict[str, str] = reply["left"]
    return left


async def _asked(path: Path, request: dict[str, Any], timeout_s: float, deadline_s: float) -> dict[str, Any]:
    """One answer, waited for until the deadline at the latest. Raises ControlError."""
    now_s = time.monotonic()
    if now_s >= deadline_s:
        raise ControlError(f"{path.name}: no time is left to ask it")
    by_s = min(deadline_s, now_s + timeout_s)
    try:
        return await answered(by_s, partial(ask, path, request, timeout_s=by_s - now_s))
    except TimeoutError:
        raise ControlError(f"{path.name}: found no answer in {by_s - now_s:.1f} s, wanted one") from None


async def finish_half_done(
    state_dir: Path,
    config: EngineConfig,
    say: Callable[[str, str], None],
    keep_up: Callable[[], bool],
    deadline_s: float,
) -> None:
    """The executor has ended: the guard ends what that has left half done; hedges leave or are held as
    ``guard.on_stop`` says.

    Bounded by ``deadline_s`` (monotonic): what is open then stands in the journals, and the next start goes on with it.
    ``keep_up`` is called meanwhile: it starts a guard again that has died, and says whether there can be one.
    """
    what, known, asked, said = "", False, False, False
    while True:
        under_way = await _taking_over(state_dir, deadline_s)
        if under_way:
            what, known = under_way, False
        elif not known:  # at first, and after a takeover: the journal may be long
            what, known = await _half_done(state_dir, deadline_s), True
        if not what:
            return
        can_come = keep_up()
        if (asked and not under_way) or not can_come or time.monotonic() > deadline_s:
            say("error", f"not ended before the stop: {what}; the next start goes on with it")
            return
        if not said:
            said, left_s = True, deadline_s - time.monotonic()
            say("warning", f"the guard ends what is open before it stops, {left_s:.0f} s at most: {what}")
        if not under_way and await _asks_guard(state_dir, config, deadline_s):
            asked, known = True, False
        await asyncio.sleep(POLL_S)


async def _half_done(state_dir: Path, deadline_s: float) -> str:
    """See :func:`half_done`; a journal that is not read in time is not nothing."""
    try:
        return await answered(max(deadline_s, time.monotonic() + LAST_LOOK_S), partial(half_done, state_dir))
    except TimeoutError:
        return "the journal is not read in time, so that what is open is not known"


async def _taking_over(state_dir: Path, deadline_s: float) -> str:
    """Why the guard stands in for the executor; "" where it does not. Of a guard that does not answer by its fence."""
    try:
        reply = await _asked(state_dir / GUARD_SOCKET, {"op": "takeover"}, GUARD_S, deadline_s)
    except ControlError:
        fence = read_halt(state_dir).fence
        return "" if fence is None else fence.reason
    return reply["taking_over"] or ""


async def _asks_guard(state_dir: Path, config: EngineConfig, deadline_s: float) -> bool:
    """Whether the guard has begun; it does not before it has seen the executor's end."""
    ids: list[str] | None = None if config.guard.on_stop is OnLoss.FLATTEN else []
    request = {"op": "close", "ids": ids, "reason": HALF_DONE, "planned": True}
    try:
        await _asked(state_dir / GUARD_SOCKET, request, GUARD_S, deadline_s)
    except ControlError:
        return False
    return True
