"""Lists of what happened to an account without an order: golden replies of the venues' documents and of ccxt."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.exchanges.gateio import histories as gate
from pipeline.exchanges.mexc import histories as mexc
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.model.errors import ProtocolViolation

D = Decimal

SPOT_BOOK = (
    b'[{"id":"123456","time":1547633726123,"currency":"BTC","change":"1.03","balance":"4.59316525194",'
    b'"type":"deposit","code":"501","text":"memo"},'
    b'{"id":"123457","time":"1547633727001","currency":"USDT","change":"-2500","balance":"1.5","type":"withdraw"},'
    b'{"id":"123458","time":1547633728000,"currency":"USDT","change":"-10","balance":"0","type":"order_fill",'
    b'"code":"101","text":"t-a1"},'
    b'{"id":"123459","time":1547633728000,"currency":"GT","change":"-0.1","balance":"0","type":"","code":"151"},'
    b'{"time":1547633729000,"currency":"XRP","change":"7","balance":"9","type":"","code":"404"}]'
)
FUTURES_BOOK = (
    b'[{"time":1682294400.123456,"change":"-250","balance":"4.59","text":"","type":"dnw","contract":"",'
    b'"trade_id":"","id":"17"},'
    b'{"time":1682294400,"change":"0.5","balance":"5.09","text":"BTC_USDT","type":"fund","id":"18"},'
    b'{"time":1682294401,"change":"1.5","balance":"6","text":"BTC_USDT:9","type":"pnl","id":"19"},'
    b'{"time":1682294402,"change":"3","balance":"9","type":"bonus_offset","id":"20"}]'
)
LIQUIDATES = (
    b'[{"time":1548654951,"contract":"BTC_USDT","size":600,"leverage":"25","margin":"0.006705256878",'
    b'"entry_price":"3536.123","liq_price":"3421.54","mark_price":"3420.27","order_id":317393847,'
    b'"order_price":"3405","fill_price":"3424","left":0}]'
)
DELEVERAGES = (
    b'[{"entry_price":"2649.648633636364","fill_price":"2790.8082","order_id":"12987123091","trade_size":-10,'
    b'"time":1675841679,"contract":"ACH_USDT","leverage":"0","cross_leverage_limit":"0","position_size":"1","user":1}]'
)


def test_gate_spot_account_book_without_what_orders_moved() -> None:
    moves, count = gate.parse_spot_moves("v", SPOT_BOOK)
    assert count == 5
    assert [(m.asset, m.amount, m.reason, m.witness, m.venue_wall_ms) for m in moves] == [
        ("BTC", D("1.03"), "deposit", "account_book 123456", 1547633726123),
        ("USDT", D(-2500), "withdraw", "account_book 123457", 1547633727001),
        ("XRP", D(7), "code 404", "account_book 1547633729000:7:9", 1547633729000),
    ]


def test_gate_futures_account_book_without_orders_and_funding() -> None:
    moves, count = gate.parse_futures_moves("v", FUTURES_BOOK)
    assert count == 4
    assert [(m.asset, m.amount, m.reason, m.witness, m.venue_wall_ms) for m in moves] == [
        ("USDT", D(-250), "transfer", "account_book 17", 1682294400123),
        ("USDT", D(3), "bonus_offset", "account_book 20", 1682294402000),
    ]


def test_gate_forced_closes_name_order_and_list() -> None:
    (liquidated,) = gate.parse_forced("v", LIQUIDATES, "liquidates")
    assert (liquidated.symbol, liquidated.order_id, liquidated.cause) == ("BTC_USDT", "317393847", "liquidation")
    assert (liquidated.price, liquidated.venue_wall_ms) == (D(3424), 1548654951000)
    assert liquidated.witness == "liquidates 317393847"
    (deleveraged,) = gate.parse_forced("v", DELEVERAGES, "auto_deleverages")
    assert (deleveraged.cause, deleveraged.witness) == ("adl", "auto_deleverages 12987123091")


DEPOSITS = (
    b'[{"amount":"10","coin":"USDC-TRX","network":"TRX","status":"5","address":"TS","txId":"51a8:0",'
    b'"insertTime":"1664805021000","unlockConfirm":"200","confirmTimes":"203","memo":"x","updateTime":"1664805621000"},'
    b'{"amount":"50000","coin":"EOS","network":"EOS","status":5,"address":"0x20b7","txId":"01391","insertTime":'
    b'1659513342000,"unlockConfirm":"10","confirmTimes":"241","memo":"xx"},'
    b'{"amount":"1","coin":"EOS","network":"EOS","status":4,"txId":"pending","insertTime":1659513342000}]'
)
WITHDRAWALS = (
    b'[{"id":"adcd1c83","txId":"0xc8:0","coin":"USDC-MATIC","network":"MATIC","address":"0xeE","amount":"2",'
    b'"transferType":"0","status":"7","transactionFee":"1","confirmNo":null,"applyTime":"1664882739000","remark":"",'
    b'"memo":null,"updateTime":"1664882799000"},'
    b'{"id":"gone","coin":"BTC","amount":"2","status":8,"applyTime":1664882739000}]'
)


def test_mexc_deposits_that_are_credited_and_withdrawals_that_did_not_fail() -> None:
    assert [(m.asset, m.amount, m.witness, m.venue_wall_ms) for m in mexc.parse_deposits("v", DEPOSITS)] == [
        ("USDC", D(10), "deposits 51a8:0", 1664805621000),
        ("EOS", D(50000), "deposits 01391", 1659513342000),
    ]
    (gone,) = mexc.parse_withdrawals("v", WITHDRAWALS)
    assert (gone.asset, gone.amount, gone.reason) == ("USDC", D(-2), "withdraw"), "the fee is in the amount"
    assert (gone.witness, gone.venue_wall_ms) == ("withdrawals adcd1c83", 1664882799000)


@pytest.mark.parametrize("bad", [b"null", b'""', b'"x"', b'"NaN"', b"[]"])
def test_rows_without_a_time_or_an_amount_are_refused(bad: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        gate.parse_spot_moves("v", b'[{"time":' + bad + b',"currency":"A","change":"1","type":"deposit"}]')
    with pytest.raises(ProtocolViolation):
        gate.parse_spot_moves("v", b'[{"time":1,"currency":"A","change":' + bad + b',"type":"deposit"}]')
    with pytest.raises(ProtocolViolation):
        gate.parse_forced("v", b'[{"time":' + bad + b',"contract":"A_B"}]', "liquidates")
    with pytest.raises(ProtocolViolation):
        mexc.parse_deposits("v", b'[{"amount":"1","coin":"A","txId":"x","status":5,"insertTime":' + bad + b"}]")


def test_an_odd_row_of_another_coin_costs_itself_and_one_of_ours_the_answer() -> None:
    """A booking that nobody foresaw must not leave a withdrawal unexplained."""
    ours, odd = {"BTC_USDT"}, OddRows()
    book = SPOT_BOOK[:-1] + b',{"id":"9","time":1,"currency":"XYZ","change":"n/a","type":"airdrop"}'
    book += b',{"time":1,"currency":"USDT","change":"1","type":"order_fill","id":{}}]'
    moves, count = gate.parse_spot_moves("v", book, ours, odd)
    assert (len(moves), count, odd.count) == (3, 7, 2)
    with pytest.raises(ProtocolViolation):
        gate.parse_spot_moves("v", book[:-1] + b',{"time":1,"currency":"USDT","change":"n/a","type":"x"}]', ours, odd)

    futures = FUTURES_BOOK[:-1] + b',{"time":1,"change":"1","type":"pnl","id":{}}]'
    assert [m.amount for m in gate.parse_futures_moves("v", futures, ours, odd)[0]] == [D(-250), D(3)]
    with pytest.raises(ProtocolViolation):
        gate.parse_futures_moves("v", futures[:-1] + b',{"time":1,"change":"n/a","type":"dnw"}]', ours, odd)

    forced = LIQUIDATES[:-1] + b',{"time":"n/a","contract":"XYZ_USDT"}]'
    assert len(gate.parse_forced("v", forced, "liquidates", ours, odd)) == 1
    with pytest.raises(ProtocolViolation):
        gate.parse_forced("v", forced.replace(b"XYZ_USDT", b"BTC_USDT"), "liquidates", ours, odd)


def test_an_odd_row_among_mexcs_deposits_and_withdrawals() -> None:
    ours, odd = {"EOSUSDC"}, OddRows()
    deposits = DEPOSITS[:-1] + b',{"amount":"n/a","coin":"XYZ-TRX","status":5,"txId":"t","insertTime":1}]'
    assert len(mexc.parse_deposits("v", deposits, ours, odd)) == 2
    with pytest.raises(ProtocolViolation):
        mexc.parse_deposits("v", deposits.replace(b"XYZ-TRX", b"USDC-TRX"), ours, odd)
    withdrawals = WITHDRAWALS[:-1] + b',{"id":7,"coin":"XYZ","amount":"1","status":7,"applyTime":1}]'
    assert len(mexc.parse_withdrawals("v", withdrawals, ours, odd)) == 1
    with pytest.raises(ProtocolViolation):
        mexc.parse_withdrawals("v", withdrawals.replace(b"XYZ", b"EOS"), ours, odd)
    assert odd.count == 2
