"""Every row of the table of rules says who really judges it, on both paths.

The test that a row names is run once more, and watched: which function of the exact path made the refusal, and which
judges of the fast path would refuse there, each asked by itself. What is judged right before the bytes leave has scenes
of its own: there the state changes between the verdict and the send.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgspec
import pytest

from pipeline.execution import plan as planning
from pipeline.execution.plan import Planner, Rejected
from pipeline.fast_entry.entry import FastEntry
from pipeline.fast_entry.memory import LIMITS, ROW
from pipeline.model.enums import OrderSide, Refusal
from pipeline.risk.gate import Gate
from pipeline.risk.last_look import LastLook
from pipeline.risk.rules import RULES, Judge, Rule
from pipeline.risk.scopes import Scopes
from shm.layout import LEG, OPPORTUNITY
from shm.layout_pages import HALT
from tests.worlds.fast_entry_world import levels
from tests.worlds.performer_world import Entry

REPO = Path(__file__).resolve().parents[3]


def _no_depth_left(ticks: int, frame: FrameType) -> bool:
    """Whether the slippage took the best price itself out of a leg's limit."""
    said = frame.f_locals
    best_fp, limit_fp = said["best_fp"], ticks * said["grid"].tick_fp
    return bool(limit_fp < best_fp if said["side"] is OrderSide.BUY else limit_fp > best_fp)


#: Functions of the exact path that are asked by the one that makes the ``Rejected``: whether an answer refuses.
ASKED: dict[CodeType, Callable[[Any, FrameType], bool]] = {
    planning.malformed.__code__: lambda text, _: bool(text),
    planning.of_other_rows.__code__: lambda text, _: bool(text),
    planning.too_old.__code__: lambda old, _: old,
    planning.too_far_apart.__code__: lambda apart, _: apart,
    Planner._limit_ticks.__code__: _no_depth_left,
    Planner._leg.__code__: lambda leg, _: leg is None,
    Planner._price_bps.__code__: lambda price_bps, _: price_bps > 0,
    Gate._breaker_for.__code__: lambda name, _: bool(name),
    Gate._already_open.__code__: lambda refused, _: refused is not None,
    Scopes.disabled.__code__: lambda scope, _: bool(scope),
    Gate.has_room.__code__: lambda room, _: not room,
}
#: Parts of a judge: the row names the judge.
PARTS = {
    "pipeline.risk.scopes:_refusal": "pipeline.risk.scopes:Scopes.refusal",
    "pipeline.risk.margin_state:MarginState._leg_refusal": "pipeline.risk.margin_state:MarginState.entry_refusal",
}


class ExactPath:
    """A profile function: (refusal, who judged it) of everything that was refused while it was set."""

    def __init__(self, said: list[Any]) -> None:
        self.said = said
        self._made: list[Rejected] = []
        self._answers: dict[FrameType, tuple[str, bool]] = {}  # who asked -> (who answered last, whether that refuses)

    def __call__(self, frame: FrameType, event: str, answer: Any) -> None:
        if event != "return":
            return
        asker = frame.f_back
        refuses = ASKED.get(frame.f_code)
        if refuses is not None and asker is not None:
            self._answers[asker] = (_name(frame), refuses(answer, frame))
        if isinstance(answer, Rejected) and not any(answer is made for made in self._made):
            self._made.append(answer)
            asked, refused = self._answers.get(frame, ("", False))
            self.said.append((answer.refusal, asked if refused else _name(frame)))
        self._answers.pop(frame, None)


def _name(frame: FrameType) -> str:
    name = f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname}"
    return PARTS.get(name, name)


def judges_of(fast: FastEntry, record: Any, halt: Any, now: Any) -> set[Judge]:
    """Which judges up to the send refuse a record, each asked whatever the others say. Nothing is changed."""
    table, found = fast.limits_table, set()
    ids = [int(record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.instrument]) for k in range(2)]
    rows = [fast._rows[number] for number in ids]
    usable = all(table.ints[table.ints[LIMITS.rows_off] + number * ROW.WORDS + ROW.usable] for number in ids)
    if not table.ints[LIMITS.enabled] or not usable:
        found.add(Judge.TABLE_OFF)
    if usable:
        kept = table.ints.copy(), table.floats.copy()
        table.ints[LIMITS.enabled] = 1
        buy, sell = ids if record[OPPORTUNITY.legs + LEG.side] > 0 else ids[::-1]
        price_bps = fast._gate.direction_price_bps(buy, sell)
        arrays = (fast._words, halt, table.ints, table.floats, fast.encoder.slots)
        if fast._judge(record, *arrays, now.mono_ns, price_bps):
            found.add(Judge.VERDICT)
        table.ints[:], table.floats[:] = kept
    fast._context.now = now
    if not fast._gate.may_enter(int(record[OPPORTUNITY.direction_key]), rows[0].spec, rows[1].spec):
        found.add(Judge.MAY_ENTER)
    return found


@contextmanager
def watched(patch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What both paths say, in its order: a set of judges for an offer that is not taken, (refusal, judge) else."""
    said: list[Any] = []
    offer = FastEntry.offer

    def offered(fast: FastEntry, record: Any, halt: Any, now: Any) -> bool:
        sys.setprofile(None)
        judges = judges_of(fast, record, halt, now)
        taken = offer(fast, record, halt, now)
        assert taken is not bool(judges), f"the fast path says {taken}, and these judges refuse: {judges}"
        if not taken:
            said.append(judges)
        sys.setprofile(exact_path)
        return taken

    exact_path = ExactPath(said)
    before = sys.getprofile()
    patch.setattr(FastEntry, "offer", offered)
    sys.setprofile(exact_path)
    try:
        yield said
    finally:
        sys.setprofile(before)
        patch.undo()


def cases(test: Callable[..., None], parameter: str) -> list[dict[str, Any]]:
    """Arguments of a test: the case that the row names, or each one."""
    choices = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0]
            values = [parameter] if parameter else mark.args[1]
            choices.append([dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in values])
    return [
        dict(itertools.chain.from_iterable(each.items() for each in found)) for found in itertools.product(*choices)
    ]


def early(rule: Rule, patch: pytest.MonkeyPatch) -> tuple[set[Judge], set[str]]:
    """(judges of the fast path, judges of the exact path) that refuse by this rule in the test of its row."""
    path, name = rule.test.split("::")
    name, _, parameter = name.removesuffix("]").partition("[")
    test = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    fast: set[Judge] = set()
    exact: set[str] = set()
    for case in cases(test, parameter):
        with watched(patch) as said:
            test(**case)
        for at, found in enumerate(said):
            if isinstance(found, tuple):
                exact |= {found[1]} if found[0] is rule.refusal else set()
                continue
            beside = [each[0] for each in (*said[at + 1 :], *said[:at][::-1]) if isinstance(each, tuple)]
            fast |= found if beside and beside[0] is rule.refusal else set()
    return fast, exact


# --- between the verdict and the send ---

Late = Callable[[Entry], None]


def says(word: int, value: int) -> Late:
    def late(entry: Entry) -> None:
        entry.world.halt[word] = value

    return late


def venue_down(entry: Entry) -> None:
    entry.venues["mexc_spot"].up = False


def old(entry: Entry) -> None:
    entry.pause(900)


def narrower(entry: Entry) -> None:
    """The configuration is read again: it bears books that are less far apart."""
    config = entry.world.core.config
    detection = msgspec.structs.replace(config.detection, max_skew_ms=10)
    entry.world.core.reconfigure(msgspec.structs.replace(config, detection=detection))


def expired(entry: Entry) -> None:
    config = entry.world.core.config
    window_ms = config.execution.entry_window_ms
    detection = msgspec.structs.replace(config.detection, max_age_to_trade_ms=2 * window_ms)
    entry.world.core.reconfigure(msgspec.structs.replace(config, detection=detection))
    entry.pause(window_ms)


#: Rule -> what happens after the verdict so that nothing leaves, and the refusal that is counted.
LATE: dict[str, tuple[Late, Refusal]] = {
    "not halted": (says(HALT.latch, 1), Refusal.HALT_LATCH),
    "lease held": (says(HALT.lease_token, 99), Refusal.LEASE),
    "venue not blocked": (says(HALT.venue_blocked + 1, 1), Refusal.VENUE_BLOCKED),
    "instrument not blocked": (says(HALT.instrument_blocked + 1, 1), Refusal.INSTRUMENT_BLOCKED),
    "sessions up, past known": (venue_down, Refusal.SESSION_DOWN),
    "books young": (old, Refusal.STALE_AT_SEND),
    "books of one time": (narrower, Refusal.STALE_AT_SEND),
    "books still young": (old, Refusal.STALE_AT_SEND),
    "order not expired": (expired, Refusal.STALE_AT_SEND),
}


def late_judges(rule: Rule, path: str, folder: Path, patch: pytest.MonkeyPatch) -> set[Judge]:
    """Who keeps an entry back that was approved, when the rule's late scene begins."""
    if rule.name not in LATE:
        return set()
    late, refusal = LATE[rule.name]
    stopped: list[Refusal] = []
    look = LastLook.entry

    def looked(*args: Any, **more: Any) -> Any:
        stop = look(*args, **more)
        stopped.extend([] if stop is None else [stop[0]])
        return stop

    patch.setattr(LastLook, "entry", looked)
    entry = Entry(folder)
    entry.pause(20)
    entry.world.publish(1, levels("100.00", "-0.05", "5"), levels("100.10", "0.05", "5"))  # later than the other one
    entry.at["journalled"] = lambda: late(entry)
    entry.enter(path)
    entry.assert_flat()
    assert entry.refused() == {refusal.name.lower(): 1}
    entry.world.close()
    patch.undo()
    return {Judge.LAST_LOOK if stopped else Judge.PERFORMER}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_row_names_the_judges_that_refuse_on_both_paths(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = late_judges(rule, "fast", tmp_path / "fast", monkeypatch)
    if rule.test.startswith("tests/unit/fast_entry/"):
        early_fast, exact = early(rule, monkeypatch)
        fast |= early_fast
    else:  # nothing refuses it before the send, on either path
        assert late_judges(rule, "exact", tmp_path / "exact", monkeypatch) == {Judge.LAST_LOOK}
        exact = {f"{LastLook.__module__}:{LastLook.entry.__qualname__}"}
    assert (fast, exact) == (set(rule.fast), {rule.exact})


def test_what_may_refuse_right_before_the_send_has_a_scene() -> None:
    named = set()
    for path in ("pipeline/risk/last_look.py", "workers/executor/performer.py"):
        for node in ast.walk(ast.parse((REPO / path).read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Refusal":
                named.add(Refusal[node.attr])
    assert named == {refusal for _, refusal in LATE.values()}
    assert LATE.keys() <= {rule.name for rule in RULES}
