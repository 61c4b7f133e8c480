"""Every number of the configuration is finite and within its bound; what may be below 0 says why."""

from __future__ import annotations

import types
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from pipeline.execution.journal import SEGMENT_BYTES_MIN
from pipeline.model.config import EngineConfig
from pipeline.model.config_bounds import BOUNDS, Bound
from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import ConfigInvalid
from workers.live_rules import live_errors, live_warnings

MARKETS = {
    "spot": {"rest": "https://localhost/a", "ws": "wss://localhost/a", "ws_api": "wss://localhost/b"},
    "futures": {"rest": "https://localhost/a", "ws": "wss://localhost/a", "ws_api": "wss://localhost/b"},
}
WHOLE: dict[str, Any] = {
    "engine_name": "t",
    "exchanges": {"gateio": {"dialect": "gateio", "markets": MARKETS}},
    "monitoring": {},
}
#: What stands for ``*`` of a row: a name that the configuration takes there.
NAMES = {
    "exchanges": "gateio",
    "fees": "gateio_spot",
    "paper": "gateio_spot",
    "per_venue": "gateio_spot",
    "targets": "gateio_spot",
    "alarms": "gateio_spot",
}
#: Rows that may be below 0, each with its reason.
BELOW_ZERO = {
    "detection.min_edge_bps": "an episode that loses may be counted",
    "detection.execute_edge_bps": "a demonstration may lose; live refuses it",
    "detection.hedge.expected_exit_basis_bps": "a basis has either sign",
    "risk_limits.min_profit_margin_bps": "below 0 an entry may lose by itself; live refuses it",
    "risk_limits.min_profit_usd": "below 0 as above; live refuses it",
    "processes.*.nice": "a process may go before others",
    "fees.*.taker_ppm": "a rebate",
    "fees.*.maker_ppm": "a rebate",
}


def rows_of(kind: Any, row: str = "") -> Iterator[str]:
    """Paths of every number that a type of the configuration can hold."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        for one in get_args(kind):
            yield from rows_of(one, row)
    elif origin in (dict, tuple):
        yield from rows_of(get_args(kind)[-1 if origin is dict else 0], f"{row}.*")
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for name, hint in get_type_hints(kind).items():
            if name in kind.__struct_fields__:
                yield from rows_of(hint, f"{row}.{name}")
    elif isinstance(kind, type) and issubclass(kind, int | float | Decimal) and not issubclass(kind, bool | Enum):
        yield row.removeprefix(".")


def with_value(row: str, value: object) -> dict[str, Any]:
    """A configuration with this value at a row."""
    data = msgspec.json.decode(msgspec.json.encode(WHOLE))
    *parents, last = row.split(".")
    if last == "*" and parents[-1] in ("cpus", "forced_slippage_bps"):
        last, value = parents.pop(), [value]
    target, above = data, ""
    for name in parents:
        key = NAMES.get(above, "detector" if above == "processes" else "X") if name == "*" else name
        target, above = target.setdefault(key, {}), name
    if "deduction" in parents:
        target["coin"] = "GT"
    target["X" if last == "*" else last] = value
    return data


def test_every_number_has_a_bound_and_every_bound_a_number() -> None:
    assert set(rows_of(EngineConfig)) == set(BOUNDS)
    assert BOUNDS["execution.journal_segment_bytes"].least == SEGMENT_BYTES_MIN
    assert {row for row, bound in BOUNDS.items() if bound.least < 0} == set(BELOW_ZERO)


@pytest.mark.parametrize("row", BOUNDS)
def test_what_is_no_number_or_beyond_its_bound_is_refused_by_its_path(row: str) -> None:
    bound = BOUNDS[row]
    path = row.removesuffix(".*") if row.endswith(("cpus.*", "bps.*")) else row
    begins = path.partition("*")[0].rstrip(".")
    for value in (float("nan"), float("inf"), float("-inf"), -1, bound.least - 1, bound.most + 1, 10**40):
        if value == -1 and row in BELOW_ZERO:
            config_from_mapping(with_value(row, value))
            continue
        with pytest.raises(ConfigInvalid) as refused:
            config_from_mapping(with_value(row, value))
        errors = refused.value.errors
        assert any(line.startswith(begins) for line in errors), errors
        assert all(line.startswith(begins.rpartition(".")[0]) for line in errors), errors


@pytest.mark.parametrize("row", BOUNDS)
def test_the_ends_of_a_bound_are_taken_and_judged_without_a_crash(row: str) -> None:
    bound = BOUNDS[row]
    for value in (bound.least, bound.most):
        try:
            config = config_from_mapping(with_value(row, value))
        except ConfigInvalid as error:
            inside = not (bound.above and value == bound.least)
            ordered = ("margin", "unwind")  # others of the section bound these further
            assert not inside or any(word in row for word in ordered), error.errors
        else:
            assert isinstance(live_errors(config), list) and isinstance(live_warnings(config), list)


def test_a_repair_does_not_begin_beyond_the_most_that_it_may_pay() -> None:
    with pytest.raises(ConfigInvalid, match=r"unwind_slippage_bps: found 201, wanted at most .* \(200\)"):
        config_from_mapping({"execution": {"unwind_slippage_bps": 201}})
    config_from_mapping({"execution": {"unwind_slippage_bps": 200}})


def test_a_bound_says_what_it_wants() -> None:
    assert Bound(1, 9, why="no venue takes more").wanted == "1 to 9: no venue takes more"
    assert Bound(0, 9, above=True).wanted == "a number above 0, at most 9"
