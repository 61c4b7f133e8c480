"""Every check of the conformance suite, and what a dialect's run of them says."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from pipeline.conformance import data_quality, figures, frames, private_side, public_side
from pipeline.conformance.venue import Checked, CheckFailed, checked_venue
from pipeline.exchanges.factory import PARTS, feed_codec
from pipeline.model.dialects import dialect_problem, facts_of, folder_of, symbol_problem
from pipeline.model.errors import ArbitrageEngineError, BadInput, ConfigInvalid

LiveCheck = Callable[[Checked], Awaitable[None]]
FrameCheck = Callable[[str, str], Iterable[str]]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One check of one market. ``said``: why it failed; "" where it passed."""

    check: str
    phase: str
    market: str
    said: str = ""


def parts_problems(dialect: str, market: str) -> Iterable[str]:
    """The modules are there; every market of the manifest has a codec; its example is a symbol of its own form."""
    facts = facts_of(dialect)
    problem = symbol_problem(facts.markets[market].symbol_example, facts.markets[market])
    if problem:
        yield f"symbol_example: {problem}"
    for part, what in PARTS.items():
        needed = part != "recordings" and (facts.trade or part != "order_session")
        if needed and not (folder_of(dialect, "exchanges") / f"{part}.py").is_file():
            yield f"has no {what} ({part}.py)"
    feed_codec(dialect, market)


#: Phase -> name -> check; the phases of the guide, in its order.
FRAME_CHECKS: dict[str, dict[str, FrameCheck]] = {
    "1 facts": {"parts": parts_problems},
    "2 frames": {
        "golden frames": frames.frame_problems,
        "cut frames": frames.cut_problems,
        "sequence": frames.sequence_problems,
    },
}
PUBLIC_CHECKS: dict[str, dict[str, LiveCheck]] = {
    "3 market data": {
        "lists and precision": public_side.lists,
        "questions and limits": public_side.questions,
        "books and gaps": public_side.books,
        "unknown symbol": public_side.unknown_symbol,
        "dead venue": public_side.dead_venue,
        "data quality": data_quality.data_quality,
        "thresholds": figures.thresholds,
    },
}
PRIVATE_CHECKS: dict[str, dict[str, LiveCheck]] = {
    "4 orders": {
        "keys and clock": private_side.keys_and_clock,
        "order life": private_side.order_life,
        "unknown outcomes": private_side.unknown_outcomes,
        "refusals": private_side.refusals,
        "private stream": private_side.private_stream,
    },
}


def check_names(dialect: str) -> list[tuple[str, str]]:
    """(market, check) of everything that applies to a dialect. Raises ``ConfigInvalid`` for what is none."""
    problem = dialect_problem(dialect)
    if problem:
        raise ConfigInvalid([f"dialect: {problem}"])
    facts = facts_of(dialect)
    tables = [*FRAME_CHECKS.values(), *PUBLIC_CHECKS.values(), *(PRIVATE_CHECKS.values() if facts.trade else ())]
    return [(market, name) for market in facts.markets for table in tables for name in table]


def run_check(dialect: str, market: str, check: str) -> Outcome:
    """One check; live ones on a fresh simulated venue. Raises ``BadInput`` for an unknown name."""
    return asyncio.run(outcome_of(dialect, market, check))


async def outcome_of(dialect: str, market: str, check: str) -> Outcome:
    """As :func:`run_check`, where a loop runs already."""
    for phase, table in FRAME_CHECKS.items():
        if check in table:
            return Outcome(check=check, phase=phase, market=market, said=_frame_said(table[check], dialect, market))
    for phase, live in {**PUBLIC_CHECKS, **PRIVATE_CHECKS}.items():
        if check in live:
            said = await _live_said(live[check], dialect, market)
            return Outcome(check=check, phase=phase, market=market, said=said)
    raise BadInput(f"found check {check!r}, wanted one of {', '.join(name for _, name in check_names(dialect))}")


def run_suite(dialect: str, say: Callable[[Outcome], None], only: Sequence[str] = ()) -> list[Outcome]:
    """Every check of a dialect (of ``only``, where named), reported one by one."""
    found = []
    for market, check in check_names(dialect):
        if only and check not in only:
            continue
        outcome = run_check(dialect, market, check)
        say(outcome)
        found.append(outcome)
    return found


def _frame_said(check: FrameCheck, dialect: str, market: str) -> str:
    try:
        return "; ".join(list(check(dialect, market))[:3])
    except Exception as error:  # noqa: BLE001  a dialect that is being written: its fault is this check's, see fault_of
        return fault_of(error)


async def _live_said(check: LiveCheck, dialect: str, market: str) -> str:
    try:
        list(frames.sequence_problems(dialect, market))  # compiles: a blocked loop would look like a stalled venue
        async with checked_venue(dialect, market) as it:
            await check(it)
    except Exception as error:  # noqa: BLE001  as above
        return fault_of(error)
    return ""


def fault_of(error: Exception) -> str:
    """Why a check failed: the sentence of an error of ours; of any other the place in the code, so that a half-written
    dialect costs one line of the suite and not the suite."""
    if isinstance(error, ExceptionGroup):
        return "; ".join(fault_of(one) for one in error.exceptions)
    if isinstance(error, CheckFailed | ArbitrageEngineError):
        return str(error)
    *_, place = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
