"""Whose key of an exchange the guard uses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.model.config import EngineConfig, ExchangeConfig
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from workers.account_clients import KeyRole, credentials_of
from workers.control_plane.preflight import check_mode
from workers.credentials import GUARD_SUFFIX, LOCKED_SUFFIX, READ_SUFFIX, store_credentials, without_guard_key
from workers.guard.process import _said
from workers.halt_file import OPEN


def test_the_guard_has_its_own_key_or_the_executors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    exchanges = {name: ExchangeConfig(dialect=name, markets={}) for name in ("mexc", "gateio")}
    ctx: Any = SimpleNamespace(config=EngineConfig(engine_name="keys", exchanges=exchanges), instance="keys")
    assert credentials_of(ctx, "mexc", KeyRole.GUARD) is None
    for exchange in exchanges:
        store_credentials("keys", exchange, Credentials(api_key=f"trade-{exchange}", api_secret="s"))
    store_credentials("keys", f"gateio{GUARD_SUFFIX}", Credentials(api_key="guard-gateio", api_secret="s"))
    store_credentials("keys", f"mexc{READ_SUFFIX}", Credentials(api_key="read-mexc", api_secret="s"))
    found = {
        (exchange, role): getattr(credentials_of(ctx, exchange, role), "api_key", None)
        for exchange in exchanges
        for role in KeyRole
    }
    assert found == {
        ("mexc", KeyRole.TRADE): "trade-mexc",
        ("mexc", KeyRole.GUARD): "trade-mexc",
        ("mexc", KeyRole.READ): "read-mexc",
        ("gateio", KeyRole.TRADE): "trade-gateio",
        ("gateio", KeyRole.GUARD): "guard-gateio",
        ("gateio", KeyRole.READ): "trade-gateio",
    }
    assert without_guard_key(ctx.config, "keys") == ["mexc"]
    guard: Any = SimpleNamespace(keeper=SimpleNamespace(state=OPEN))
    assert _said(guard, ctx) == "latch open; no key of its own at mexc: would use the trade key"
    store_credentials("keys", f"mexc{GUARD_SUFFIX}", Credentials(api_key="guard-mexc", api_secret="s"))
    assert _said(guard, ctx) == "latch open"


@pytest.mark.parametrize("locked", [False, True], ids=["of a wider mode", "encrypted"])
def test_a_trade_key_that_is_not_for_the_guard_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    exchanges = {"mexc": ExchangeConfig(dialect="mexc", markets={})}
    store_credentials("keys", f"mexc{GUARD_SUFFIX}", Credentials(api_key="guard-mexc", api_secret="s"))
    trade = store_credentials("keys", "mexc", Credentials(api_key="trade-mexc", api_secret="s"))
    if locked:
        trade.rename(trade.with_name(trade.name + LOCKED_SUFFIX))
    else:
        trade.chmod(0o644)
    assert without_guard_key(EngineConfig(engine_name="keys", exchanges=exchanges), "keys") == []


@pytest.mark.parametrize("damaged", [False, True], ids=["of a wider mode", "damaged"])
def test_a_guard_key_that_cannot_be_used_is_told_at_a_start_and_ends_no_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    exchange = ExchangeConfig(dialect="mexc", markets={})
    config = EngineConfig(engine_name="keys", mode=Mode.LIVE, exchanges={"mexc": exchange})
    store_credentials("keys", "mexc", Credentials(api_key="trade-mexc", api_secret="s"))
    own = store_credentials("keys", f"mexc{GUARD_SUFFIX}", Credentials(api_key="guard-mexc", api_secret="s"))
    if damaged:
        own.write_text("{")
    else:
        own.chmod(0o644)
    guard: Any = SimpleNamespace(keeper=SimpleNamespace(state=OPEN))
    ctx: Any = SimpleNamespace(config=config, instance="keys")
    found = f"keys/{own.name}: found "
    assert _said(guard, ctx).startswith("latch open; ") and found in _said(guard, ctx)
    with pytest.raises(ConfigInvalid) as refused:
        check_mode(config, "keys", live_name="")
    assert any(error.startswith(found) for error in refused.value.errors), "a start says it before anything runs"
