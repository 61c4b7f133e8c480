"""Requests at the executor's control socket that no command would send: each is answered, none ends the process."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbitrage.instance import TIMEOUT_S
from arbitrage.positions import PositionManager
from pipeline.exchanges.parsing.announced_ends import ENDS_TIMEOUT_S
from pipeline.model.config import EngineConfig, GuardConfig
from pipeline.model.errors import BadInput
from tests.worlds.execution_starts import Operator, ready_world
from tests.worlds.hedged_world import hedged_world
from workers.cli.closing import CLOSE_TIMEOUT_S
from workers.cli.commands_control import SYMBOLS_TIMEOUT_S
from workers.control_plane.catalogue import FEE_SWITCH_TIMEOUT_S, FETCH_TIMEOUT_S
from workers.control_plane.close_before_stop import EXECUTOR_S
from workers.control_socket import ControlServer
from workers.executor.control import CLOSE_POLL_S, CLOSE_POLLS, READY_POLLS, SOCKET

FIELDS = (
    "reason", "id", "name", "state", "exchange", "symbol", "venue", "asset", "amount", "after", "all", "dry_run",
    "wait", "for_uid", "uid", "opportunity", "legs", "type",
)  # fmt: skip
MARGIN_S = 2.0  # polls and answers of a host that is busy come later than they are counted
LEG = {"venue": "mexc_spot", "symbol": "BTCUSDT", "side": "buy", "qty": "0.01", "limit_price": "64000"}
OTHER = {**LEG, "venue": "gateio_spot", "side": "sell"}
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 7, 2**63, -(2**63), 1.5, 1e308, "", " ", "x" * 5000, "1e999999", "-1e999999", "0e999999", "NaN",
    "1e-999999", "9" * 300, [], {}, [[]], [{}], ["a"], {"legs": []}, {"legs": None}, {"legs": [LEG]}, "mexc_spot",
    "BTC", "spot_spot", "completed", "unknown_past", "\x00", "\ufffd",
)  # fmt: skip


def odd_opportunity(chance: random.Random) -> dict[str, Any]:
    legs = [{**leg, chance.choice([*LEG]): chance.choice(ODD)} for leg in (LEG, OTHER)]
    for leg in legs:
        if chance.random() < 0.2:
            leg.pop(chance.choice([*leg]))
    return {"type": chance.choice(["spot_spot", chance.choice(ODD)]), "legs": legs}


def odd_requests(ops: list[str], count: int) -> list[dict[str, Any]]:
    """Requests with fields of any type, the same in every run."""
    chance = random.Random(1)
    found: list[dict[str, Any]] = []
    for _ in range(count):
        request = {name: chance.choice(ODD) for name in chance.sample(FIELDS, chance.randrange(6))}
        if chance.random() < 0.4:
            request["opportunity"] = odd_opportunity(chance)
        if chance.random() < 0.5:
            request.update(reason="odd", venue="mexc_spot", asset="USDT")
        found.append({**request, "op": chance.choice(ops)})
    return found


async def answered(control: Any, path: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    """The reply to each line, over the socket."""
    await control.start()
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        replies = []
        for line in lines:
            writer.write(line + b"\n")
            replies.append(msgspec.json.decode(await reader.readline(), type=dict[str, Any]))
        writer.close()
        return replies
    finally:
        await control.close()


def test_every_request_of_any_types_is_answered_and_none_is_taken_for_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.executor.control.CLOSE_POLLS", 0)
    world = ready_world()
    said: list[tuple[str, str]] = []
    control = Operator(world, tmp_path).control(lambda level, text: said.append((level, text)))
    ops = sorted(control._handlers)
    lines = [msgspec.json.encode(request) for request in odd_requests([*ops, "no such"], 3000)]
    replies = asyncio.run(answered(control, tmp_path / SOCKET, lines))
    assert said == []
    assert sum(reply.get("kind") == "bad_input" for reply in replies) > 1000
    assert sum("error" not in reply for reply in replies) > 300
    assert world.core.ledger.operations == {}, "nothing was entered"


def test_a_question_counts_nothing_and_trips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = ready_world(limits={"max_position_size_usd": Decimal(50)})
    monkeypatch.setattr("workers.executor.control.mono_ns", lambda: world.now_ns)
    operator, risk = Operator(world, tmp_path), world.core.risk
    world.offer("mexc_spot", "gateio_spot")  # the books
    asked = [
        {
            "legs": [
                {**LEG, "qty": qty, "limit_price": "100"},
                {**OTHER, "qty": qty, "side": side, "limit_price": "100.3"},
            ]
        }
        for qty, side in (("0.9", "buy"), ("0.9", "sell"), ("0.4", "sell"))
    ]
    before = (risk.approvals, risk.refusals)
    for _ in range(10):
        answers = [operator.ask("validate", opportunity=opportunity) for opportunity in asked]
        assert [answer["refusal"] for answer in answers] == ["malformed", "position_limit", "none"], answers
    assert (risk.approvals, risk.refusals) == before
    assert not world.core.ledger.breakers and not risk.gate.position_refused
    operator.ask("execute", opportunity=asked[1], wait=False)
    assert risk.gate.position_refused, "what was wanted and refused is remembered"


def test_the_opposite_of_a_hedge_is_answered_with_what_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = hedged_world()
    monkeypatch.setattr("workers.executor.control.mono_ns", lambda: world.now_ns)
    operator, (hedge,) = Operator(world, tmp_path), world.core.ledger.hedges
    (entry,) = world.core.ledger.operations.values()
    bought = next(leg for leg in entry.record.legs if leg.venue == "gateio_spot")
    legs = [
        {"venue": "gateio_futures", "symbol": entry.record.legs[1].symbol, "side": "buy", "limit_price": "100.45"},
        {"venue": "gateio_spot", "symbol": bought.symbol, "side": "sell", "limit_price": "99.90"},
    ]
    opposite = {"type": "spot_futures_hedge", "legs": [{**leg, "qty": "1"} for leg in legs]}
    reply = operator.ask("execute", opportunity=opposite, wait=False)
    assert reply["refusal"] == "nets" and f"arb close {hedge} leaves hedge {hedge} now" in reply["reason"]
    for name, bid, ask in (("gateio_spot", "100.60", "100.61"), ("gateio_futures", "100.20", "100.21")):
        world.venues[name].bid, world.venues[name].ask = Decimal(bid), Decimal(ask)
    reply = operator.ask("execute", opportunity=opposite, wait=False)
    (left,) = [name for name, one in world.core.ledger.operations.items() if one.record.closes == hedge]
    assert reply["refusal"] == "nets" and f"{left} leaves hedge {hedge} instead" in reply["reason"]
    assert f"arb why {left}" in reply["reason"] and "arb close" not in reply["reason"]


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("validate", {"opportunity": {"legs": []}}),
        ("execute", {"legs": [LEG, {**OTHER, "qty": "1e999999"}]}),
        ("risk", {"after": "now"}),
        ("approve", {"id": 5}),
        ("close", {"all": "yes"}),
        ("set_aside", {"name": "a", "venue": "mexc_spot", "asset": "USDT", "amount": "1e999999"}),
        ("release", {"name": ["a"]}),
        ("rearm", {"name": "x", "reason": "r", "for_uid": 2**80}),
    ],
)
def test_a_field_of_another_type_is_bad_input(tmp_path: Path, op: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Operator(ready_world(), tmp_path).ask(op, **fields)


def test_a_null_is_a_field_that_is_not_there(tmp_path: Path) -> None:
    assert Operator(ready_world(), tmp_path).ask("risk", after=None)["alerts"] == []


def test_a_bug_that_a_request_meets_is_answered_and_said(tmp_path: Path) -> None:
    async def broken(request: dict[str, Any]) -> dict[str, Any]:
        return {"reply": 1 // int(request["n"])}

    said: list[tuple[str, str]] = []
    server = ControlServer(tmp_path / "a.sock", broken, lambda level, text: said.append((level, text)))
    deep = b'{"n":' + b"[" * 100_000
    replies = asyncio.run(answered(server, tmp_path / "a.sock", [b'{"n":0}', b"\xff", deep, b'{"n":1}']))
    assert "ZeroDivisionError" in replies[0]["error"] and "error" in replies[1] and "error" in replies[2]
    assert replies[3] == {"reply": 1}
    (line,) = said
    assert line[0] == "error" and "ZeroDivisionError" in line[1] and '{"n":0}' in line[1]


def test_a_closing_waits_for_an_executor_as_long_as_one_may_take_and_whoever_asks_waits_for_both() -> None:
    """The guard ends one that is not READY: a healthy one that has just been started is not to be asked past."""
    ready_s = READY_POLLS * CLOSE_POLL_S
    assert ready_s >= GuardConfig().restart_within_ms / 1000
    assert ready_s + CLOSE_POLLS * CLOSE_POLL_S + MARGIN_S <= EXECUTOR_S < CLOSE_TIMEOUT_S


def test_who_adds_a_symbol_waits_for_each_question_to_its_venue() -> None:
    assert min(SYMBOLS_TIMEOUT_S, TIMEOUT_S) >= ENDS_TIMEOUT_S + FETCH_TIMEOUT_S + FEE_SWITCH_TIMEOUT_S + MARGIN_S


def test_a_component_waits_for_a_close_as_a_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, float] = {}

    def ask(_path: Path, request: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        asked[request["op"]] = timeout_s
        return {}

    monkeypatch.setattr("arbitrage.instance.ask", ask)
    components = PositionManager(EngineConfig(engine_name="waits", exchanges={}))
    asyncio.run(components.close_position("a1x1"))
    assert asked == {"close": CLOSE_TIMEOUT_S}


@pytest.mark.parametrize("op", ["close", "flatten"])
def test_an_executor_that_is_not_ready_begins_no_closing_and_says_so(tmp_path: Path, op: str) -> None:
    """The guard is asked then, which ends it when its time is over: a hedge that both close would be closed twice."""
    world, serving = ready_world(), False
    context, soon = world.core.context, GuardConfig(restart_within_ms=100)
    context.config = msgspec.structs.replace(context.config, guard=soon)
    control = Operator(world, tmp_path).control(lambda _level, _text: None)
    control._serving = lambda: serving
    lines = [msgspec.json.encode({"op": op, "all": True, "reason": "r", "dry_run": dry}) for dry in (False, True)]
    refused, shown = asyncio.run(answered(control, tmp_path / SOCKET, lines))
    assert "not READY after 0.1 s" in refused["error"] and "kind" not in refused and not world.core.forced_close.wanted
    assert shown["dry_run"], "what would be sent is shown"
    serving = True
    assert "error" not in asyncio.run(answered(control, tmp_path / SOCKET, lines[:1]))[0]
