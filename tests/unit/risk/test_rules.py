"""The table of rules is whole, true, and kept by the fast path: no limit and no refusal without a row and a test.

What a limit is, the exact gate says here and no list: each field of the configuration is set to values that may forbid,
in states in which they could, and the fast path is held against the gate.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import AccountSnapshot, Tick
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.fast_entry.memory import LIMITS
from pipeline.model.config import EngineConfig, RiskLimits, VenueLimitConfig
from pipeline.model.enums import ArbitrageState, InstrumentKind, OpportunityType, OrderState, Refusal
from pipeline.rehearsal.entry_world import EntryWorld, engine_config
from pipeline.rehearsal.instruments import spec
from pipeline.risk.rules import (
    EXACT_PATH_ONLY,
    KNOWN,
    NO_RULE,
    RULES,
    Judge,
    Rule,
    limit_fields,
    unknown_limits,
)
from tests.worlds.fast_entry_world import a_world, exact, filled, levels, opened, ordinary

REPO = Path(__file__).resolve().parents[3]
#: Files that name refusals and refuse no entry.
NO_JUDGES = {
    "pipeline/risk/rules.py": "the table itself",
    "pipeline/execution/inventory/prices.py": "prices for the detector, whose refusal it names",
    "pipeline/execution/events.py": "carries a refusal",
    "workers/executor/pages.py": "counts what was refused",
}


def judges() -> list[str]:
    """Files of the rooms of the executor that name a refusal: every refusal there must have a row."""
    rooms = [
        path
        for room in ("pipeline/execution", "pipeline/risk", "workers/executor")
        for path in (REPO / room).rglob("*.py")
    ]
    paths = [str(path.relative_to(REPO)) for path in [REPO / "pipeline/core.py", *rooms]]
    return [path for path in paths if path not in NO_JUDGES and "Refusal." in (REPO / path).read_text()]


# --- the table itself ---


def test_every_refusal_that_the_executor_can_give_has_a_row() -> None:
    named = set()
    for path in judges():
        for node in ast.walk(ast.parse((REPO / path).read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Refusal":
                named.add(Refusal[node.attr])
    assert named - {Refusal.NONE} == {rule.refusal for rule in RULES}
    late = {refusal for refusal in Refusal if refusal >= Refusal.STALE_AT_EXECUTOR}
    assert late <= {rule.refusal for rule in RULES}, "the numbers from 100 on are the executor's"


def test_names_of_rules_are_their_own_and_fields_stand_in_one_list() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.fast for rule in RULES)
    ruled = {path for rule in RULES for path in rule.limits}
    assert not ruled & NO_RULE.keys() and not ruled & EXACT_PATH_ONLY.keys() and not NO_RULE.keys() & EXACT_PATH_ONLY


def test_every_field_of_the_limits_has_a_row_and_no_row_names_a_field_that_is_not() -> None:
    assert set(limit_fields(engine_config())) == KNOWN, "the steps are in pipeline/risk/README.md, Adding a limit"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_judged_where_its_row_says_and_its_test_exists(rule: Rule) -> None:
    module, name = rule.exact.removeprefix("pipeline.").split(":")
    found: Any = importlib.import_module(f"pipeline.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
    path, test = rule.test.split("::")
    test, _, parameter = test.removesuffix("]").partition("[")
    cases = cases_of(REPO / path)[test]
    assert parameter in cases if parameter else not cases, f"no test {rule.test}"
    assert cases.get(parameter, "") in ("", rule.refusal.name), "the test expects another refusal than the row"


def cases_of(path: Path) -> dict[str, dict[str, str]]:
    """Tests of a file -> ids of their parameters -> the refusal that the table of parameters expects ("" = none)."""
    tables: dict[str, dict[str, str]] = {}
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                tables[target.id] = ids_of(node.value)
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = {}
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute):
                    values = mark.args[1] if mark.func.attr == "parametrize" else ast.List([])
                    known = tables.get(values.id, {}) if isinstance(values, ast.Name) else ids_of(values)
                    found[node.name].update(known)
    return found


def ids_of(values: ast.expr) -> dict[str, str]:
    """Ids of a literal dictionary or list of parameters -> the refusal that stands behind each."""
    if isinstance(values, ast.List):
        return {str(item.value): "" for item in values.elts if isinstance(item, ast.Constant)}
    found = {}
    if isinstance(values, ast.Dict):
        for key, value in zip(values.keys, values.values, strict=True):
            if isinstance(key, ast.Constant):
                named = [n.attr for n in ast.walk(value) if isinstance(n, ast.Attribute) and "Refusal" in ast.dump(n)]
                found[str(key.value)] = named[0] if named else ""
    return found


# --- limits that the fast path does not know ---


class MoreLimits(RiskLimits, frozen=True, kw_only=True):
    """Limits with one that nobody has given a rule."""

    max_leg_usd: Decimal = Decimal(1_000_000)


def test_a_limit_without_a_rule_turns_the_fast_path_off_also_at_its_default() -> None:
    with a_world() as world:
        opened(world)
        assert unknown_limits(world.config) == []
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        world.fast_entry.limits_table.all_changed()
        more = MoreLimits(**msgspec.structs.asdict(world.config.risk_limits))
        config = msgspec.structs.replace(world.config, risk_limits=more)
        world.core.reconfigure(config)
        assert unknown_limits(config) == ["risk_limits.max_leg_usd"]
        assert not world.fast_entry.limits_table.ints[LIMITS.enabled]
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


@pytest.mark.parametrize("path", EXACT_PATH_ONLY)
def test_settings_of_the_exact_path_turn_the_fast_path_off(path: str) -> None:
    value, _ = limit_fields(engine_config())[path]
    for other in candidates(value):
        with scene(plain, changed(engine_config(), path, other)) as (world, record):
            assert not world.fast_entry.limits_table.ints[LIMITS.enabled]
            assert not world.fast_entry.offer(record, world.halt, world.now())


# --- every field, in every state, with values that may forbid ---

MS = 1_000_000
Scene = Callable[[EntryWorld], Any]


def candidates(value: Any) -> list[Any]:
    """Values of a field that could make it forbid: its type's extremes, everything that an enum or a switch has."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, Enum):
        return [other for other in type(value) if other is not value]
    if isinstance(value, int):
        return [0, 10**9]
    if isinstance(value, Decimal) or value is None:
        return [Decimal("0.000001"), Decimal(10**9)]
    if isinstance(value, str):
        return ["EUR"]
    if isinstance(value, tuple):
        return [()]
    if isinstance(value, dict):
        return [dict.fromkeys(("mexc_spot", "ETH", "ETH/USDT"), limit) for limit in scoped_limits()]
    raise AssertionError(f"no candidates for {value!r}: say here which values of this type may forbid")


def scoped_limits() -> list[VenueLimitConfig]:
    found = []
    for field in msgspec.structs.fields(VenueLimitConfig):
        now = getattr(VenueLimitConfig(), field.name)
        wanted = [not now] if isinstance(now, bool) else [0 if "int" in str(field.type) else Decimal("0.000001")]
        found += [VenueLimitConfig(**{field.name: value}) for value in wanted]
    return found


def changed(config: EngineConfig, path: str, value: Any) -> EngineConfig:
    """The configuration with one field, by its dotted path, at another value."""

    def put(struct: Any, names: list[str]) -> Any:
        if names[0] == "*":
            return {name: put(each, names[1:]) for name, each in struct.items()}
        inner = put(getattr(struct, names[0]), names[1:]) if len(names) > 1 else value
        return msgspec.structs.replace(struct, **{names[0]: inner})

    return put(config, path.split("."))  # type: ignore[no-any-return]


SPECS = [
    spec("mexc_spot", tick=Decimal("0.02")),
    spec("gateio_spot"),
    spec("gateio_futures"),
    spec("mexc_spot", symbol="ETHUSDT", base="ETH", tick=Decimal("0.02")),
    spec("gateio_spot", symbol="ETH_USDT", base="ETH"),
    spec("gateio_futures", symbol="ETH_USDT", base="ETH"),
]
ETH, ETH_SOLD, ETH_CONTRACT = 3, 4, 5


@contextmanager
def scene(state: Scene, config: EngineConfig) -> Iterator[tuple[EntryWorld, Any]]:
    """A world in a state, and an opportunity in ETH that is taken in it with the configuration of the walk."""
    with a_world(config=config, specs=SPECS) as world:
        world.fund_all()
        offsets = {row.spec.venue: world.wall_offset_ns + 500 * MS for row in world.core.context.instruments}
        world.feed(AccountSnapshot((), clock_offsets_ns=offsets))
        yield world, state(world)


def books(world: EntryWorld, first: int) -> None:
    """Books of one coin, the second a little later than the first; the best ask is no multiple of the tick."""
    world.publish(first, levels("98.99", "-0.01", "5", "5"), levels("99.11", "0.05", "5", "5"))
    world.now_ns += 2 * MS
    world.publish(first + 1, levels("100.00", "-0.05", "5", "5"), levels("100.10", "0.05", "5"))
    world.publish(first + 2, levels("101.00", "-0.05", "5", "5"), levels("101.10", "0.05", "5"))


def offered(world: EntryWorld, first: int = ETH, second: int = ETH_SOLD) -> Any:
    """An opportunity that was detected 2 ms ago, on books of before."""
    books(world, first)
    hedge = world.rows[second].spec.kind is InstrumentKind.PERPETUAL
    kind = OpportunityType.SPOT_FUTURES_HEDGE if hedge else OpportunityType.SPOT_SPOT
    legs = [(first, 1, Decimal("0.5"), Decimal("99.5")), (second, -1, Decimal("0.5"), Decimal("99.6"))]
    record = world.record(legs, kind)
    world.now_ns += 2 * MS
    return record


def plain(world: EntryWorld) -> Any:
    return offered(world)


def hedge(world: EntryWorld) -> Any:
    return offered(world, ETH, ETH_CONTRACT)


class Unreachable(Exception):
    """With this configuration the engine does not come into this state."""


def enter(world: EntryWorld, first: int = 0) -> None:
    """An operation that the exact path approved is under way in the coin of instrument ``first``."""
    world.feed(decode_opportunity(offered(world, first, first + 1), world.now_ns))
    if not world.core.ledger.open_operations:
        raise Unreachable(world.core.refusals.last)


def second_entry(world: EntryWorld) -> Any:
    """Another coin's operation is under way."""
    enter(world)
    return offered(world)


def after_an_end(world: EntryWorld) -> Any:
    """The same direction has ended a second ago."""
    enter(world, ETH)
    filled(world, 0)
    filled(world, 1)
    if world.core.ledger.open_operations:
        raise Unreachable("its second leg was given up before it filled")
    world.now_ns += 1000 * MS
    world.fund_all()
    return offered(world)


def broken(world: EntryWorld) -> Any:
    """Another coin's operation has one leg only, for 50 ms."""
    enter(world)
    filled(world, 0)
    filled(world, 1, state=OrderState.CANCELLED)
    operation = next(iter(world.core.ledger.open_operations.values()))
    if operation.state is not ArbitrageState.RECOVERING:
        raise Unreachable(operation.state.name)
    world.now_ns += 50 * MS
    world.feed(Tick())
    return offered(world)


def lost_today(world: EntryWorld) -> Any:
    ledger = world.core.ledger
    ledger.day, ledger.day_pnl = world.now().wall_ns // 86_400_000_000_000, Decimal(-100)
    ledger.total_pnl = Decimal(-100)
    world.core.update_limits_table()
    return offered(world)


SCENES = (plain, hedge, second_entry, after_an_end, broken, lost_today)


def walk_config() -> EngineConfig:
    """All pauses short enough for the scenes; everything else as the worlds of this folder have it."""
    return engine_config(detection={"types": ("spot_spot", "spot_futures_hedge")})


@pytest.mark.parametrize("state", SCENES, ids=lambda state: state.__name__)
def test_the_scenes_of_the_walk_are_taken_by_both_paths(state: Scene) -> None:
    with scene(state, walk_config()) as (world, record):
        assert world.fast_entry.offer(record, world.halt, world.now()), world.fast_entry.last_no
        world.fast_entry.limits_table.all_changed()
        assert isinstance(exact(world, record), Plan)


def judged(state: Scene, config: EngineConfig) -> tuple[bool, Plan | Rejected] | None:
    """(whether the fast path takes it, what the exact gate says); None: no engine can be made with these values."""
    try:
        with scene(state, config) as (world, record):
            fast = world.fast_entry.offer(record, world.halt, world.now())
            world.fast_entry.limits_table.all_changed()
            return fast, exact(world, record)
    except (ArithmeticError, Unreachable):
        return None


#: Values with which no engine can be made, and why.
NEVER_JUDGED: dict[str, tuple[list[Any], str]] = {}


@pytest.mark.parametrize("path", sorted(limit_fields(engine_config())))
def test_the_fast_path_sees_every_limit_that_the_exact_gate_sees(path: str) -> None:
    value, _ = limit_fields(walk_config())[path]
    refusals = set()
    never_judged = []
    for candidate in candidates(value):
        answers = [found for state in SCENES if (found := judged(state, changed(walk_config(), path, candidate)))]
        if not answers:
            never_judged.append(candidate)
        for fast, answer in answers:
            if isinstance(answer, Rejected):
                refusals.add(answer.refusal)
                assert not fast, f"{path} = {candidate}: the exact gate says {answer}, the fast path takes it"
    rows = [rule for rule in RULES if path in rule.limits]
    by_the_gate = {rule.refusal for rule in rows if rule.fast != (Judge.LAST_LOOK,)}
    assert never_judged == NEVER_JUDGED.get(path, ([], ""))[0], f"no scene was judged with these values of {path}"
    missing = by_the_gate - refusals
    assert not missing, f"no value of {path} was refused as its rows say: {missing}"
    assert by_the_gate or not refusals, f"{path} refuses entries: it needs a row"
