"""Everything but the scanners that reads what others have written: venues' answers and pushes, HTTP, configuration,
journals, segments, requests at control sockets. A reader may refuse by its documented errors and by nothing else, no
number that it takes is NaN or infinite, and what it has read it does not keep."""

from __future__ import annotations

import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.binance import account as binance_account
from pipeline.exchanges.binance import errors as binance_errors
from pipeline.exchanges.binance import orders as binance_orders
from pipeline.exchanges.binance import websocket_api as binance_api
from pipeline.exchanges.bybit import errors as bybit_errors
from pipeline.exchanges.bybit import websocket_api as bybit_api
from pipeline.exchanges.gateio import account as gate_account
from pipeline.exchanges.gateio import errors as gate_errors
from pipeline.exchanges.gateio import orders as gate_orders
from pipeline.exchanges.gateio import websocket_api as gate_api
from pipeline.exchanges.mexc import account as mexc_account
from pipeline.exchanges.mexc import errors as mexc_errors
from pipeline.exchanges.mexc import orders as mexc_orders
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.exchanges.parsing.venue_json import decode
from pipeline.exchanges.transport.http1 import Http1Connection, _Exchange
from pipeline.execution.journal import Journal, read_journal
from pipeline.execution.records import BootRecord, BreakerRecord
from pipeline.model.config_load import load_config
from pipeline.model.errors import ArbitrageEngineError
from shm.errors import ShmError
from shm.segment import Segment, segment_name
from tests.campaigns.fuzz.mutate import mutated
from tests.campaigns.fuzz.parsers import parsers
from tests.campaigns.fuzz.samples import WORDS, sample_bytes
from tests.campaigns.fuzz.structured import json_mutated, protobuf_mutated
from tests.campaigns.level_fit import own_bytes
from workers.control_socket import decoded

HANG_MS = 250.0  # of one input, in time of this thread
FINDINGS_MAX = 20
WARM = 500  # inputs behind which memory is to be level: modules, pools and caches are there
GROWN_BYTES_MAX = 64 * 1024 * 1024
SLOW, SLOW_SHARE = ("configuration", "journal"), 0.3  # they read files
MULTIPLIERS = {"BTC_USDT": Decimal("0.0001")}
CONFIG = b"""engine_name: demo
mode: paper
exchanges:
  mexc: {markets: {spot: {symbols: [BTCUSDT, ETHUSDT]}}}
  gateio: {markets: {futures: {symbols: [BTC_USDT]}, spot: {symbols: [BTC_USDT]}}}
risk_limits: {max_position_size_usd: 1000, max_daily_loss_usd: "50.5", max_orders_per_s: 10}
execution: {entry_window_ms: 800, unknown_grace_ms: 1200, numeraire: USDT}
detection: {max_age_to_trade_ms: 100}
"""
HTTP = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 5\r\n\r\n<html",
)


@dataclass(frozen=True)
class Reader:
    """``read`` may raise ``refuses``; what it returns is looked through for numbers that are none."""

    name: str
    seeds: list[bytes]
    read: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...] = (ArbitrageEngineError,)
    protobuf: bool = False


def _reply(body: bytes) -> HttpReply:
    return HttpReply(status=400, headers={}, body=body, recv_mono_ns=5)


def _error(error_of: Callable[[str, HttpReply], Any]) -> Callable[[bytes], Any]:
    return lambda body: [
        repr(error_of("v", HttpReply(status=status, headers={}, body=body, recv_mono_ns=5)))
        for status in (200, 400, 403, 429, 503)
    ]


def _gate_push(data: bytes) -> Any:
    frame = decode(gate_account.envelope, data, "v", "private frame")
    return list(gate_account.parse_push("v", frame, MULTIPLIERS, 1))


def _listed(module: Any, name: str) -> list[bytes]:
    return [sample_bytes(getattr(module, name), listed=True)]


def _one(module: Any, name: str) -> list[bytes]:
    return [sample_bytes(getattr(module, name), listed=False)]


def venue_readers() -> Iterator[Reader]:
    """Answers and pushes of the venues."""
    orders, account = gate_orders, gate_account
    gate = (ArbitrageEngineError, KeyError)  # a contract whose multiplier is not known
    yield Reader("gateio spot orders", _listed(orders, "SpotOrder"), lambda d: orders.spot_updates("v", d, 1, "rest"))
    yield Reader("gateio spot fills", _listed(orders, "SpotTrade"), lambda d: orders.spot_fills("v", d, 1, "rest"))
    yield Reader(
        "gateio futures orders",
        _listed(gate_orders, "FuturesOrder"),
        lambda d: gate_orders.futures_updates("v", d, MULTIPLIERS, 1, "rest"),
        gate,
    )
    yield Reader(
        "gateio futures fills",
        _listed(gate_orders, "FuturesTrade"),
        lambda d: gate_orders.futures_fills("v", d, MULTIPLIERS, 1, "rest"),
        gate,
    )
    yield Reader("gateio balances", _listed(account, "_SpotAccount"), lambda d: account.parse_spot_balances("v", d, 1))
    yield Reader("gateio account", _one(account, "_FuturesAccount"), lambda d: account.parse_futures_balance("v", d, 1))
    yield Reader("gateio book", _listed(gate_account, "_Booking"), lambda d: gate_account.parse_funding("v", d))
    yield Reader("gateio positions", _listed(gate_account, "PositionRow"), lambda d: gate_account.position_rows("v", d))
    pushes = [
        b'{"channel":"%s","event":"update","result":%s}' % (channel, sample_bytes(kind, listed=True))
        for channel, kind in (
            (b"spot.orders", gate_orders.SpotOrder),
            (b"futures.orders", gate_orders.FuturesOrder),
            (b"spot.usertrades", gate_orders.SpotTrade),
            (b"futures.usertrades", gate_orders.FuturesTrade),
            (b"futures.positions", gate_account.PositionRow),
        )
    ]
    yield Reader("gateio push", pushes, _gate_push, gate)
    api = _one(gate_api, "ApiReply")
    yield Reader("gateio websocket", api, lambda d: repr(gate_api.reply_error("v", gate_api.parse_reply("v", d), 1)))
    yield Reader("gateio errors", [b'{"label":"TOO_MANY_REQUESTS","message":"x"}'], _error(gate_errors.error_of))
    yield Reader("mexc orders", _listed(mexc_orders, "_Order"), lambda d: mexc_orders.parse_orders("v", d, 1))
    yield Reader("mexc fills", _listed(mexc_orders, "_Trade"), lambda d: mexc_orders.parse_fills("v", d, 1))
    yield Reader("mexc ack", _one(mexc_orders, "_Ack"), lambda d: mexc_orders.parse_ack("v", "a1", _reply(d)))
    yield Reader("mexc balances", _one(mexc_account, "_Account"), lambda d: mexc_account.parse_balances("v", d, 1))
    yield Reader("mexc push", mexc_pushes(), lambda d: list(mexc_account.parse_private("v", d, 1)), protobuf=True)
    yield Reader("mexc errors", [b'{"code":30004,"msg":"Insufficient position"}'], _error(mexc_errors.error_of))
    yield Reader("binance orders", _listed(binance_orders, "_Order"), lambda d: binance_orders.parse_orders("v", d, 1))
    yield Reader("binance fills", _listed(binance_orders, "_Trade"), lambda d: binance_orders.parse_fills("v", d, 1))
    yield Reader(
        "binance balances",
        _one(binance_account, "_SpotAccount"),
        lambda d: binance_account.parse_balances("v", "spot", d, 1),
    )
    yield Reader(
        "binance positions", _listed(binance_account, "_Position"), lambda d: binance_account.parse_positions("v", d, 1)
    )
    events = [*_one(binance_account, "_Report"), *_one(binance_account, "_AccountPosition")]
    events += [*_one(binance_account, "_BalanceUpdate")]
    yield Reader("binance event", events, lambda d: list(binance_account.parse_event("v", d, 1)))
    yield Reader(
        "binance websocket",
        _one(binance_api, "ApiFrame"),
        lambda d: repr(binance_api.reply_error("v", binance_api.parse_frame("v", d))),
    )
    yield Reader("binance errors", [b'{"code":-2010,"msg":"Duplicate order sent."}'], _error(binance_errors.error_of))
    yield Reader(
        "bybit websocket",
        _one(bybit_api, "ApiReply"),
        lambda d: repr(bybit_api.reply_error("v", bybit_api.parse_reply("v", d), 1)),
    )
    yield Reader("bybit errors", [b'{"retCode":10006,"retMsg":"x","result":{}}'], _error(bybit_errors.error_of))
    for name, seeds, read, more in parsers():
        yield Reader(name, seeds, read, (ArbitrageEngineError, *more))


def mexc_pushes() -> list[bytes]:
    """An order, a deal and a balance."""
    found = []
    for name in ("orders", "deals", "account"):
        push = PushDataV3ApiWrapper()
        push.channel, push.symbol, push.sendTime = f"spot@private.{name}.v3.api.pb", "MXUSDT", 1_700_000_000_000
        if name == "orders":
            push.privateOrders.id, push.privateOrders.clientId, push.privateOrders.price = "C1", "ab1", "3.5"
            push.privateOrders.quantity, push.privateOrders.cumulativeQuantity, push.privateOrders.status = "1", "1", 2
        elif name == "deals":
            push.privateDeals.price, push.privateDeals.quantity, push.privateDeals.tradeId = "3.5", "1", "5X1"
            push.privateDeals.feeAmount, push.privateDeals.feeCurrency, push.privateDeals.tradeType = "0.1", "MX", 1
        else:
            push.privateAccount.vcoinName, push.privateAccount.balanceAmount = "USDT", "10.5"
        found.append(push.SerializeToString())
    return found


class _NoSocket:
    """A transport whose bytes come from here."""

    def abort(self) -> None:
        """The connection would end; a request in flight is lost with it."""

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return "TLS" if name == "ssl_object" else None


def answers(data: bytes) -> list[HttpReply]:
    """What a connection takes ``data`` for, in one piece and in two."""
    found: list[HttpReply] = []
    for at in (len(data), len(data) // 2):
        connection = Http1Connection(lambda ended: None)
        connection.connection_made(cast(Any, _NoSocket()))
        connection._exchange = _Exchange(connection, found.append, lambda reason: None)
        connection.data_received(data[:at])
        if data[at:]:
            connection.data_received(data[at:])
        connection.connection_lost(None)
    return found


class _Folder:
    """Files that are read again and again: a configuration, a journal, a segment."""

    def __init__(self, stack: ExitStack) -> None:
        self.path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        self.config = self.path / "config.yaml"
        journal = Journal.open(self.path / "journal", segment_bytes=16 * 1024)
        for number in range(12):
            record = (
                BootRecord(7, "demo", "sim", 1, 2) if not number else BreakerRecord("a", bool(number % 2), "x" * 50)
            )
            journal.append(record, number, number)
        journal.close()
        (self.segment_file,) = sorted((self.path / "journal").glob("journal-*"))
        whole = self.segment_file.read_bytes()
        self.journal_seed = whole[: 4096 + len(whole.rstrip(b"\0")[4096:])]
        self.instance = f"fuzz{secrets.token_hex(3)}"
        self.segment = Segment.create(
            segment_name(self.instance, "page"), size_words=512, kind=9, instance=self.instance
        )
        self.segment.set_ready()
        self.segment_seed = bytes(memoryview(self.segment.words).cast("B"))
        stack.callback(self.segment.close)
        stack.callback(self.segment.unlink)
        stack.callback(self._restore)

    def _restore(self) -> None:
        memoryview(self.segment.words).cast("B")[:] = self.segment_seed

    def read_config(self, data: bytes) -> Any:
        self.config.write_bytes(data)
        return load_config(self.config, {})

    def read_journal(self, data: bytes) -> Any:
        self.segment_file.write_bytes(data)
        return [repr(entry.record) for entry in read_journal(self.path / "journal")]

    def read_segment(self, data: bytes) -> Any:
        memory = memoryview(self.segment.words).cast("B")
        memory[:] = data[: len(memory)].ljust(len(memory), b"\0")
        Segment.attach(segment_name(self.instance, "page"), kind=9, instance=self.instance).close()


def file_readers(stack: ExitStack) -> Iterator[Reader]:
    """Files, sockets and memory. ``stack``: what is to be taken away at the end."""
    folder = _Folder(stack)
    yield Reader("http reply", list(HTTP), answers, ())
    yield Reader("configuration", [CONFIG], folder.read_config)
    yield Reader("journal", [folder.journal_seed], folder.read_journal)
    yield Reader("segment", [folder.segment_seed], folder.read_segment, (ShmError,))
    yield Reader("control request", [b'{"op":"halt","reason":"x","uid":0}', b'{"op":"close","ids":["a"]}'], decoded)


def odd_number(value: Any, depth: int = 6) -> bool:
    """Whether a number that is NaN or infinite is in ``value``."""
    if isinstance(value, Decimal):
        return not value.is_finite()
    if isinstance(value, float):
        return value != value or value in (float("inf"), float("-inf"))
    if isinstance(value, msgspec.Struct):
        return depth > 0 and any(odd_number(getattr(value, name), depth - 1) for name in value.__struct_fields__)
    if isinstance(value, list | tuple | set | frozenset):
        return depth > 0 and any(odd_number(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return depth > 0 and any(odd_number(item, depth - 1) for item in value.values())
    return False


def judged(reader: Reader, data: bytes) -> str:
    """Reads ``data``; what was wrong, or ""."""
    began_s = time.thread_time()
    try:
        if odd_number(reader.read(data)):
            return "takes a number that is none"
    except reader.refuses:
        pass
    except Exception as error:  # noqa: BLE001  anything else that a reader raises is a finding
        return f"{type(error).__name__}: {str(error)[:300]}"
    took_ms = (time.thread_time() - began_s) * 1000
    return f"took {took_ms:.0f} ms" if took_ms > HANG_MS else ""


def drawn(reader: Reader, rng: random.Random) -> bytes:
    """A mutation of one of the reader's seeds."""
    if reader.protobuf and rng.random() < 0.6:
        made = protobuf_mutated(reader.seeds, rng)
    elif rng.random() < 0.6:
        made = json_mutated(reader.seeds, rng, WORDS)
    else:
        made = None
    return mutated(reader.seeds, rng, 64 * 1024) if made is None else made


def read_all(inputs: int, rng: random.Random) -> dict[str, Any]:
    """``inputs`` mutations over all readers, each as often as the others."""
    with ExitStack() as stack:
        return read_by([*venue_readers(), *file_readers(stack)], inputs, rng)


def read_by(readers: list[Reader], inputs: int, rng: random.Random) -> dict[str, Any]:
    """:func:`read_all` with these readers."""
    findings: list[dict[str, str]] = []
    done = before = 0
    while done < inputs:
        reader = rng.choice(readers)
        if reader.name in SLOW and rng.random() > SLOW_SHARE:
            continue
        done += 1
        data = drawn(reader, rng)
        wrong = judged(reader, data)
        if wrong and len(findings) < FINDINGS_MAX:
            findings.append({"reader": reader.name, "input": data.hex(), "wrong": wrong})
        if done == WARM:
            before = own_bytes(os.getpid())
    grown = own_bytes(os.getpid()) - before if before else 0
    if grown > GROWN_BYTES_MAX:
        findings.append({"reader": "all of them", "input": "", "wrong": f"{grown:,} bytes more than at first"})
    return {"inputs": done, "readers": len(readers), "grown_bytes": grown, "findings": findings}
