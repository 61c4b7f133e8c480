"""The files of paper accounts: what each begins with, and lines that are written whole or not at all."""

from __future__ import annotations

import resource
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from pipeline.model.config import PaperConfig
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import InstrumentSpec
from pipeline.paper_account import PaperAccount, PaperFile, open_accounts
from tests.exhausted import limited

SPEC = InstrumentSpec(
    venue="x_spot",
    symbol="S",
    base="BTC",
    quote="USDT",
    kind=InstrumentKind.SPOT,
    tick=Decimal("0.1"),
    lot=Decimal("0.001"),
)


def test_every_coin_is_held_for_the_same_value_in_dollars(tmp_path: Path) -> None:
    def listed(base: str, quote: str, price: str) -> InstrumentSpec:
        return msgspec.structs.replace(
            SPEC, symbol=f"{base}_{quote}", base=base, quote=quote, reference_price=Decimal(price)
        )

    open_accounts(
        tmp_path, [listed("BTC", "USDT", "50000"), listed("ETH", "USDT", "2500"), listed("ETH", "BTC", "0.05")]
    )
    account = PaperAccount(tmp_path, "x_spot")
    account.refresh()
    assert account.wallet == {"USDT": Decimal(10_000), "BTC": Decimal("0.1"), "ETH": Decimal(2)}


def test_an_account_begins_with_the_capital_that_is_configured(tmp_path: Path) -> None:
    """Spot: half dollars, half coins in equal parts. Contracts: all dollars. What is named amount by amount: that."""

    def listed(venue: str, base: str, price: str, kind: InstrumentKind = InstrumentKind.SPOT) -> InstrumentSpec:
        return msgspec.structs.replace(
            SPEC, venue=venue, symbol=f"{base}_USDT", base=base, reference_price=Decimal(price), kind=kind
        )

    perpetual = InstrumentKind.PERPETUAL
    specs = [listed("a_spot", "BTC", "50000"), listed("a_spot", "ETH", "2500"), listed("b_spot", "BTC", "50000")]
    specs += [listed("b_futures", "BTC", "50000", perpetual), listed("c_spot", "BTC", "50000")]
    paper = {
        "a_spot": PaperConfig(capital_usd=Decimal(200)),
        "b_futures": PaperConfig(capital_usd=Decimal(100)),
        "c_spot": PaperConfig(balances={"USDT": Decimal(7), "BTC": Decimal("0.5"), "ETH": Decimal(0)}),
    }
    open_accounts(tmp_path, specs, paper)
    wallets = {}
    for venue in ("a_spot", "b_spot", "b_futures", "c_spot"):
        account = PaperAccount(tmp_path, venue)
        account.refresh()
        wallets[venue] = account.wallet
    assert wallets == {
        "a_spot": {"USDT": Decimal(100), "BTC": Decimal("0.001"), "ETH": Decimal("0.02")},
        "b_spot": {"USDT": Decimal(10_000), "BTC": Decimal("0.1")},
        "b_futures": {"USDT": Decimal(100)},
        "c_spot": {"USDT": Decimal(7), "BTC": Decimal("0.5")},
    }
    open_accounts(tmp_path, specs, {"a_spot": PaperConfig(capital_usd=Decimal(900))})
    account = PaperAccount(tmp_path, "a_spot")
    account.refresh()
    assert account.wallet == wallets["a_spot"], "an account is made once"


def test_a_half_written_line_is_waited_for(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path, "v")
    account.append(PaperFile(balances={"USDT": Decimal(5)}))
    with account.path.open("ab") as handle:
        handle.write(b'{"moves": {"USDT"')
    other = PaperAccount(tmp_path, "v")
    other.refresh()
    assert other.wallet == {"USDT": Decimal(5)}
    with account.path.open("ab") as handle:
        handle.write(b': "1"}}\n')
    other.refresh()
    assert other.wallet == {"USDT": Decimal(6)}


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path, "x_spot")
    account.append(PaperFile(balances={"USDT": Decimal(5)}))
    size = account.path.stat().st_size
    with limited(resource.RLIMIT_FSIZE, size + 10), pytest.raises(OSError, match="No space"):
        account.append(PaperFile(balances={"USDT": Decimal(7)}))
    assert account.path.stat().st_size == size
    account.append(PaperFile(balances={"USDT": Decimal(1)}))
    assert account.wallet["USDT"] == 6
