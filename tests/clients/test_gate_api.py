"""gate-api, the exchange's own SDK: spot and futures, changed in nothing but the host."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import FaultRule
from tests.worlds.client_support import HostedSim
from tests.worlds.later import gate_api


def client(sim: HostedSim, secret: str | None = None) -> Any:
    row = sim.info["venues"]["gateio_spot"]
    config = gate_api.Configuration(host=row["rest"], key=row["api_key"], secret=secret or row["api_secret"])
    return gate_api.ApiClient(config)


@pytest.fixture(scope="module")
def spot(sim: HostedSim) -> Any:
    return gate_api.SpotApi(client(sim))


@pytest.fixture(scope="module")
def futures(sim: HostedSim) -> Any:
    return gate_api.FuturesApi(client(sim))


def test_spot_lists_books_and_tickers(spot: Any) -> None:
    pairs = {row.id: row for row in spot.list_currency_pairs()}
    assert (pairs["BTC_USDT"].precision, pairs["BTC_USDT"].amount_precision) == (1, 6)
    assert pairs["BTC_USDT"].trade_status == "tradable"
    coins = {row.currency: row for row in spot.list_currencies()}
    assert coins["NOVA"].chains[0].addr.startswith("0x")
    book = spot.list_order_book("BTC_USDT", limit=20, with_id=True)
    assert book.id > 0 and Decimal(book.bids[0][0]) < Decimal(book.asks[0][0])
    (ticker,) = spot.list_tickers(currency_pair="BTC_USDT")
    assert Decimal(ticker.highest_bid) < Decimal(ticker.lowest_ask)
    assert spot.get_system_time().server_time > 0


def test_spot_order_lives_and_dies(spot: Any) -> None:
    book = spot.list_order_book("BTC_USDT", limit=5)
    price = str(round(Decimal(book.bids[0][0]) * Decimal("0.97"), 1))
    order = gate_api.Order(
        currency_pair="BTC_USDT", side="buy", amount="0.01", price=price, text="t-sdk-1", time_in_force="gtc"
    )
    placed = spot.create_order(order)
    assert (placed.status, placed.text, placed.left) == ("open", "t-sdk-1", "0.01")
    assert spot.get_order(placed.id, "BTC_USDT").id == placed.id
    assert spot.get_order("t-sdk-1", "BTC_USDT").id == placed.id
    open_pairs = {row.currency_pair: row for row in spot.list_all_open_orders()}
    assert [row.id for row in open_pairs["BTC_USDT"].orders] == [placed.id]
    cancelled = spot.cancel_order(placed.id, "BTC_USDT")
    assert (cancelled.status, cancelled.finish_as) == ("cancelled", "cancelled")
    with pytest.raises(gate_api.exceptions.GateApiException) as refused:
        spot.cancel_order(placed.id, "BTC_USDT")
    assert refused.value.label == "ORDER_CANCELLED"
    assert placed.id in [row.id for row in spot.list_orders("BTC_USDT", "finished")]


def test_spot_fill_shows_in_trades_and_accounts(spot: Any) -> None:
    before = {row.currency: Decimal(row.available) for row in spot.list_spot_accounts()}
    ask = Decimal(spot.list_order_book("ETH_USDT", limit=5).asks[0][0])
    order = gate_api.Order(
        currency_pair="ETH_USDT",
        side="buy",
        amount="0.03",
        price=str(round(ask * Decimal("1.01"), 2)),
        time_in_force="ioc",
    )
    done = spot.create_order(order)
    assert (done.status, done.finish_as, done.fee_currency) == ("closed", "filled", "ETH")
    trades = spot.list_my_trades(currency_pair="ETH_USDT", order_id=done.id)
    assert sum(Decimal(row.amount) for row in trades) == Decimal("0.03")
    fee = sum(Decimal(row.fee) for row in trades)
    after = {row.currency: Decimal(row.available) for row in spot.list_spot_accounts()}
    assert after["ETH"] - before["ETH"] == Decimal("0.03") - fee
    assert before["USDT"] - after["USDT"] == sum(Decimal(row.amount) * Decimal(row.price) for row in trades)


def test_spot_batch_places_and_cancels_item_by_item(spot: Any) -> None:
    bid = Decimal(spot.list_order_book("XRP_USDT", limit=5).bids[0][0])
    price = str(round(bid * Decimal("0.97"), 4))

    def order(text: str, amount: str) -> Any:
        return gate_api.Order(currency_pair="XRP_USDT", side="buy", amount=amount, price=price, text=text)

    good, bad = spot.create_batch_orders([order("t-b1", "100"), order("t-b2", "2")])
    assert good.succeeded and not bad.succeeded and bad.label == "INVALID_PARAM_VALUE"
    item = gate_api.CancelBatchOrder(currency_pair="XRP_USDT", id=good.id)
    (gone,) = spot.cancel_batch_orders([item])
    assert gone.succeeded


def test_dead_man_switch_is_armed_and_disarmed(spot: Any, futures: Any) -> None:
    armed = spot.countdown_cancel_all_spot(gate_api.CountdownCancelAllSpotTask(timeout=30))
    assert int(armed.trigger_time) > 0
    spot.countdown_cancel_all_spot(gate_api.CountdownCancelAllSpotTask(timeout=0))
    task = gate_api.CountdownCancelAllFuturesTask(timeout=30, contract="BTC_USDT")
    assert int(futures.countdown_cancel_all_futures("usdt", task).trigger_time) > 0
    task = gate_api.CountdownCancelAllFuturesTask(timeout=3)
    with pytest.raises(gate_api.exceptions.GateApiException):
        futures.countdown_cancel_all_futures("usdt", task)


def test_fees_come_from_the_wallet_endpoint(sim: HostedSim) -> None:
    fee = gate_api.WalletApi(client(sim)).get_trade_fee(currency_pair="BTC_USDT")
    assert Decimal(fee.taker_fee) == Decimal("0.0002")
    assert Decimal(fee.futures_maker_fee) == Decimal("-0.00005")


def test_futures_contract_position_and_account(futures: Any) -> None:
    contract = futures.get_futures_contract("usdt", "BTC_USDT")
    assert (contract.quanto_multiplier, contract.order_price_round) == ("0.0001", "0.1")
    book = futures.list_futures_order_book("usdt", "BTC_USDT", limit=10, with_id=True)
    ask = Decimal(book.asks[0].p)
    assert ask > Decimal(book.bids[0].p)
    order = gate_api.FuturesOrder(contract="BTC_USDT", size="7", price="0", tif="ioc", text="t-fut-1")
    done = futures.create_futures_order("usdt", order)
    assert (done.status, done.finish_as, Decimal(done.size), Decimal(done.left)) == ("finished", "filled", 7, 0)
    position = futures.get_position("usdt", "BTC_USDT")
    assert Decimal(position.size) == 7 and Decimal(position.entry_price) == Decimal(done.fill_price)
    account = futures.list_futures_accounts("usdt")
    assert Decimal(account.position_margin) > 0 and Decimal(account.available) < Decimal(account.total)
    trades = futures.get_my_trades("usdt", contract="BTC_USDT", order=done.id)
    assert sum(Decimal(row.size) for row in trades) == 7
    closing = gate_api.FuturesOrder(contract="BTC_USDT", size="0", price="0", tif="ioc", close=True)
    futures.create_futures_order("usdt", closing)
    assert Decimal(futures.get_position("usdt", "BTC_USDT").size) == 0


def test_futures_order_is_found_by_both_ids_and_cancelled(futures: Any) -> None:
    book = futures.list_futures_order_book("usdt", "ETH_USDT", limit=5)
    price = str(round(Decimal(book.bids[0].p) * Decimal("0.97"), 1))
    order = gate_api.FuturesOrder(contract="ETH_USDT", size="-2", price=price, tif="poc", text="t-fut-2")
    with pytest.raises(gate_api.exceptions.GateApiException) as refused:
        futures.create_futures_order("usdt", order)
    assert refused.value.label == "ORDER_POC_IMMEDIATE"
    order = gate_api.FuturesOrder(contract="ETH_USDT", size="2", price=price, tif="poc", text="t-fut-3")
    placed = futures.create_futures_order("usdt", order)
    assert placed.status == "open"
    assert futures.get_futures_order("usdt", "t-fut-3").id == placed.id
    assert [row.id for row in futures.list_futures_orders("usdt", "open", contract="ETH_USDT")] == [placed.id]
    gone = futures.cancel_futures_order("usdt", str(placed.id))
    assert (gone.status, gone.finish_as) == ("finished", "cancelled")
    with pytest.raises(gate_api.exceptions.GateApiException) as missing:
        futures.get_futures_order("usdt", "t-nobody")
    assert missing.value.label == "ORDER_NOT_FOUND"


def test_wrong_secret_is_refused(sim: HostedSim) -> None:
    with pytest.raises(gate_api.exceptions.GateApiException) as refused:
        gate_api.SpotApi(client(sim, "wrong")).list_spot_accounts()
    assert refused.value.label == "INVALID_SIGNATURE"


def test_futures_account_book_has_deposits_and_fees_with_numbers_of_their_own(futures: Any) -> None:
    book = futures.list_futures_account_book("usdt", limit=100)
    assert len({row.id for row in book}) == len(book) > 0
    deposit = book[-1]
    assert (deposit.type, Decimal(deposit.change)) == ("dnw", Decimal(deposit.balance))
    assert not futures.list_futures_account_book("usdt", type="fund")


def test_spot_orders_are_amended_one_by_one_and_in_a_batch(spot: Any, sim: HostedSim) -> None:
    bid = Decimal(spot.list_order_book("DOGE_USDT", limit=5).bids[0][0])
    prices = [str(round(bid * Decimal(factor), 5)) for factor in ("0.97", "0.96", "0.95")]
    order = gate_api.Order(currency_pair="DOGE_USDT", side="buy", amount="100", price=prices[0], text="t-am-1")
    placed = spot.create_order(order)
    patch = gate_api.OrderPatch(currency_pair="DOGE_USDT", price=prices[1], amend_text="t-why")
    amended = spot.amend_order("t-am-1", patch)
    assert (amended.id, amended.price, amended.amend_text) == (placed.id, prices[1].rstrip("0"), "t-why")
    items = [
        gate_api.BatchAmendItem(order_id=placed.id, currency_pair="DOGE_USDT", amount="80"),
        gate_api.BatchAmendItem(order_id="1", currency_pair="DOGE_USDT", amount="80"),
    ]
    good, bad = spot.amend_batch_orders(items)
    assert (good.succeeded, good.amount, bad.succeeded, bad.label) == (True, "80", False, "ORDER_NOT_FOUND")
    venue = sim.venue("gateio_spot")
    account = next(iter(venue.accounts.values()))
    (own,) = sim.call(lambda: venue.open_orders(account, "DOGE_USDT"))
    assert (own.qty, own.price) == (Decimal(80), Decimal(prices[1]))
    for change, label in (({}, "MISSING_REQUIRED_PARAM"), ({"amount": "900000"}, "BALANCE_NOT_ENOUGH")):
        with pytest.raises(gate_api.exceptions.GateApiException) as refused:
            spot.amend_order(placed.id, gate_api.OrderPatch(currency_pair="DOGE_USDT", **change))
        assert refused.value.label == label
    (gone,) = spot.cancel_orders(currency_pair="DOGE_USDT", side="buy")
    assert (gone.id, gone.succeeded) == (placed.id, True)


def test_futures_orders_are_amended_placed_and_cancelled_in_batches(futures: Any) -> None:
    bid = Decimal(futures.list_futures_order_book("usdt", "DOGE_USDT", limit=5).bids[0].p)
    low = str(round(bid * Decimal("0.97"), 5))

    def order(size: str, price: str, text: str) -> Any:
        return gate_api.FuturesOrder(contract="DOGE_USDT", size=size, price=price, text=text)

    first, bad = futures.create_batch_futures_order("usdt", [order("3", low, "t-bf-1"), order("3", "0", "t-bf-2")])
    assert first.succeeded and (bad.succeeded, bad.label) == (False, "INVALID_PARAM_VALUE")
    amended = futures.amend_futures_order("usdt", "t-bf-1", gate_api.FuturesOrderAmendment(size="5"))
    assert (Decimal(amended.size), Decimal(amended.left)) == (5, 5)
    requests = [
        gate_api.BatchAmendOrderReq(order_id=first.id, size="4"),
        gate_api.BatchAmendOrderReq(text="t-no", size="4"),
    ]
    done, missing = futures.amend_batch_future_orders("usdt", requests)
    assert done.succeeded and Decimal(done.size) == 4 and missing.label == "ORDER_NOT_FOUND"
    with pytest.raises(gate_api.exceptions.GateApiException) as refused:
        futures.amend_futures_order("usdt", str(first.id), gate_api.FuturesOrderAmendment(size="-4"))
    assert refused.value.label == "INVALID_PARAM_VALUE"
    gone, unknown = futures.cancel_batch_future_orders("usdt", [str(first.id), "1"])
    assert gone.succeeded and (unknown.succeeded, unknown.message) == (False, "ORDER_NOT_FOUND")


def test_candles_of_both_markets_come_by_limit_or_by_span_and_never_by_both(spot: Any, futures: Any) -> None:
    now_s = spot.get_system_time().server_time // 1000
    newest = spot.list_candlesticks("BTC_USDT", limit=2, interval="10s")
    assert 1 <= len(newest) <= 2 and int(newest[-1][0]) % 10 == 0
    spanned = spot.list_candlesticks("BTC_USDT", _from=now_s - 300, to=now_s, interval="1m")
    assert spanned[-1][0] == str(now_s // 60 * 60) and spanned[-1][7] == "false"
    candle = futures.list_futures_candlesticks("usdt", "BTC_USDT", limit=1, interval="1h")[-1]
    assert float(candle.l) <= float(candle.c) <= float(candle.h)
    mark = futures.list_futures_candlesticks("usdt", "mark_BTC_USDT", limit=1, interval="1h")[-1]
    assert mark.v is None and mark.c
    for call in (
        lambda: spot.list_candlesticks("BTC_USDT", limit=2, to=now_s),
        lambda: spot.list_candlesticks("BTC_USDT", interval="7m"),
        lambda: futures.list_futures_candlesticks("usdt", "BTC_USDT", _from=now_s - 90_000, to=now_s, interval="10s"),
    ):
        with pytest.raises(gate_api.exceptions.GateApiException) as refused:
            call()
        assert refused.value.label == "INVALID_PARAM_VALUE"


def test_wallet_and_account_tell_chains_totals_and_what_moved(sim: HostedSim) -> None:
    wallet, account = gate_api.WalletApi(client(sim)), gate_api.AccountApi(client(sim))
    (chain,) = wallet.list_currency_chains("NOVA")
    assert chain.contract_address.startswith("0x") and chain.is_deposit_disabled == 0
    total = wallet.get_total_balance()
    parts = sum(Decimal(part.amount) for part in total.details.values())
    assert Decimal(total.total.amount) == pytest.approx(parts) and parts > 120_000
    moved = gate_api.Transfer(currency="USDT", _from="futures", to="spot", amount="10", settle="usdt")
    assert wallet.transfer(moved).tx_id
    assert wallet.list_deposits(currency="USDT", limit=1)[0].amount == "10"
    futures_book = gate_api.FuturesApi(client(sim)).list_futures_account_book("usdt", type="dnw", limit=1)
    assert futures_book[0].change == "-10"
    assert account.get_account_detail().user_id == int(sim.info["venues"]["gateio_spot"]["uid"])
    assert wallet.transfer(gate_api.Transfer(currency="USDT", _from="spot", to="futures", amount="10", settle="usdt"))


def test_futures_dual_mode_by_its_own_endpoints(futures: Any) -> None:
    contract = "SOL_USDT"
    assert futures.set_dual_mode("usdt", True).in_dual_mode

    def send(size: str, **more: Any) -> Any:
        order = gate_api.FuturesOrder(contract=contract, size=size, price="0", tif="ioc", **more)
        return futures.create_futures_order("usdt", order)

    def held() -> dict[str, Decimal]:
        return {row.mode: Decimal(row.size) for row in futures.get_dual_mode_position("usdt", contract)}

    send("5")
    send("-3")
    assert held() == {"dual_long": 5, "dual_short": -3}
    assert {row.leverage for row in futures.update_dual_mode_position_leverage("usdt", contract, "7")} == {"7"}
    with pytest.raises(gate_api.exceptions.GateApiException) as refused:
        futures.get_position("usdt", contract)
    assert refused.value.label == "POSITION_DUAL_MODE"
    send("-2", reduce_only=True)
    assert held() == {"dual_long": 3, "dual_short": -3}
    send("0", auto_size="close_long")
    send("0", auto_size="close_short")
    assert held() == {"dual_long": 0, "dual_short": 0}
    assert futures.set_position_mode("usdt", "single").position_mode == "single"
    assert futures.list_position_close("usdt", contract=contract)[0].side in ("long", "short")


def act(sim: HostedSim, **rule: Any) -> None:
    sim.call(lambda: apply_action(sim.server.venues, FaultRule.parse({"venue": "gateio_futures", **rule})))


def test_forced_closes_are_listed_with_their_orders(futures: Any, sim: HostedSim) -> None:
    symbol = "SOL_USDT"
    for size in ("6", "-5"):
        futures.create_futures_order("usdt", gate_api.FuturesOrder(contract=symbol, size=size, price="0", tif="ioc"))
        if size == "6":
            act(sim, kind="liquidate", symbol=symbol)
        else:
            act(sim, kind="adl", symbol=symbol, amount="2")
    (liquidated,) = futures.list_liquidates("usdt", contract=symbol)
    assert (Decimal(liquidated.size), Decimal(liquidated.left), liquidated.leverage) == (6, 0, "10")
    order = futures.get_futures_order("usdt", str(liquidated.order_id))
    assert (order.is_liq, order.finish_as, order.text) == (True, "liquidated", f"liq-{order.id}")
    (deleveraged,) = futures.list_auto_deleverages("usdt", contract=symbol)
    assert (Decimal(deleveraged.trade_size), Decimal(deleveraged.position_size)) == (2, -3)
    assert {row.text for row in futures.get_my_trades("usdt", contract=symbol, order=deleveraged.order_id)} == {
        "auto_deleveraging"
    }
    closed, *_ = futures.list_position_close("usdt", contract=symbol)
    assert (closed.side, closed.text) == ("long", order.text)
    position = futures.get_position("usdt", symbol)
    assert (position.pos_margin_mode, position.lever, Decimal(position.size)) == ("isolated", "10", -3)
    assert Decimal(position.liq_price) > Decimal(position.mark_price)
    crossed = futures.update_contract_position_leverage("usdt", symbol, "5", "cross")
    assert (crossed.pos_margin_mode, crossed.leverage, crossed.cross_leverage_limit) == ("cross", "0", "5")
    assert position.liq_price != crossed.liq_price
    account = futures.list_futures_accounts("usdt")
    assert Decimal(account.cross_maintenance_margin) > 0 and Decimal(account.cross_mmr) > 1
    act(sim, kind="adl", symbol=symbol)
    (tier,) = futures.list_futures_risk_limit_tiers("usdt", contract=symbol)
    assert (tier.risk_limit, tier.maintenance_rate, tier.deduction) == ("1000000", "0.005", "0")


def test_modes_and_rights_of_the_account_are_read_and_set(futures: Any, sim: HostedSim) -> None:
    unified, account = gate_api.UnifiedApi(client(sim)), gate_api.AccountApi(client(sim))
    assert unified.get_unified_mode().mode == "classic" and futures.list_futures_accounts("usdt").margin_mode == 0
    assert account.get_account_detail().key.mode == 1
    with pytest.raises(gate_api.exceptions.GateApiException):
        unified.list_unified_accounts()
    unified.set_unified_mode(gate_api.UnifiedModeSet(mode="portfolio"))
    assert unified.get_unified_mode().mode == "portfolio" and futures.list_futures_accounts("usdt").margin_mode == 2
    shown = unified.list_unified_accounts()
    assert shown.mode == "portfolio" and Decimal(shown.balances["USDT"].equity) > 0
    act(sim, kind="change_mode", venue="*", text="classic")
    assert unified.get_unified_mode().mode == "classic"
    key = account.get_account_main_keys()
    assert {row.name: row.read_only for row in key.perms} == {"wallet": False, "spot": False, "futures": False}
    reader = sim.info["venues"]["gateio_spot"]["keys"][2]
    config = gate_api.Configuration(
        host=sim.info["venues"]["gateio_spot"]["rest"], key=reader["api_key"], secret=reader["api_secret"]
    )
    rights = gate_api.AccountApi(gate_api.ApiClient(config)).get_account_main_keys()
    assert all(row.read_only for row in rights.perms)
    assert account.get_debit_fee().enabled is False
    account.set_debit_fee(gate_api.DebitFee(enabled=True))
    assert account.get_debit_fee().enabled is True
    account.set_debit_fee(gate_api.DebitFee(enabled=False))


def test_dual_mode_shows_and_sets_both_sides(futures: Any) -> None:
    assert futures.set_position_mode("usdt", "dual").position_mode == "dual"
    both = futures.update_contract_position_leverage("usdt", "DOGE_USDT", "7", "isolated")
    rows = both if isinstance(both, list) else [both]
    assert {row.lever for row in rows} <= {"7", None}
    shown = futures.get_dual_mode_position("usdt", "DOGE_USDT")
    assert {row.mode: row.lever for row in shown} == {"dual_long": "7", "dual_short": "7"}
    assert futures.set_position_mode("usdt", "single").position_mode == "single"
