"""Recordings made up by seed, in the documented file formats, and what plain dicts of Decimals say about them.

A maker keeps a true book per symbol, tells it by updates as the venue does, drops some, repeats some, connects again,
and writes the bytes with every freedom that JSON and the formats leave. The twin reads the *files* (json module,
Decimal), applies the documented alignment rules and gives one row per applied update. Nothing of the product is used.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.naive.book import NaiveBook, decimals

Row = tuple[str, int, Decimal | None, Decimal | None, Decimal | None, Decimal | None]
"""symbol, u, bid, bid quantity, ask, ask quantity."""
START_NS = 1_790_000_000_000_000_000


@dataclass
class Market:
    """One symbol's true book. Prices and quantities are whole numbers of ``tick`` and ``step``."""

    symbol: str
    tick: Decimal
    step: Decimal
    middle: int
    draw: random.Random
    last: int = 1000
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    objects: bool = False  # Gate.io futures: {"p": "0.1", "s": 5}
    largest: int = 10**17 + 7

    def __post_init__(self) -> None:
        for k in range(1, 60):
            self.bids[self.middle - k] = self._qty()
            self.asks[self.middle + k] = self._qty()

    def _qty(self) -> int:
        return self.draw.choice([1, self.draw.randrange(1, 1000), self.draw.randrange(1, 10**9), self.largest])

    def level(self, price: int, qty: int) -> Any:
        text = self.number(self.tick * price)
        if self.objects:
            size = int(self.step * qty)
            return {"s": size, "p": text} if self.draw.random() < 0.5 else {"p": text, "s": size}
        return [text, self.number(self.step * qty)]

    def number(self, value: Decimal) -> str:
        """The value in one of the spellings of plain decimals: padded, bare of zeros, or as it falls."""
        text = f"{value:f}"
        style = self.draw.randrange(3)
        if style == 0:
            return text
        whole, _, part = text.partition(".")
        if style == 1:
            return f"{whole}.{part.ljust(8, '0')}"
        part = part.rstrip("0")
        return f"{whole}.{part}" if part else whole

    def update(self, ids: int) -> tuple[int, int, list[Any], list[Any]]:
        """(first, last, bid changes, ask changes); now and then a side runs empty or unknown levels are deleted."""
        first, self.last = self.last + 1, self.last + ids
        changes: tuple[dict[int, int], dict[int, int]] = ({}, {})
        if self.draw.random() < 0.02:
            side = self.draw.randrange(2)
            book = (self.bids, self.asks)[side]
            changes[side].update(dict.fromkeys(book, 0))
        self.middle += self.draw.choice([-1, 0, 0, 1])
        for _ in range(self.draw.choice([0, 1, 3, 12])):
            depth = self.draw.choice([1, 2, 5, 30, 400])
            side = self.draw.randrange(2)
            price = max(1, self.middle - depth) if side == 0 else self.middle + depth
            changes[side][price] = self.draw.choice([0, self._qty()])
        for book, changed, keep in (
            (self.bids, changes[0], lambda price: price < self.middle),
            (self.asks, changes[1], lambda price: price > self.middle),
        ):
            changed.update({price: 0 for price in book if not keep(price)})
            for price in [price for price, qty in changed.items() if qty and not keep(price)]:
                changed[price] = 0
            for price, qty in changed.items():
                if qty:
                    book[price] = qty
                else:
                    book.pop(price, None)
        rows = [[self.level(*item) for item in changed.items()] for changed in changes]
        for side_rows in rows:
            self.draw.shuffle(side_rows)
        return first, self.last, rows[0], rows[1]

    def levels(self, depth: int) -> tuple[list[Any], list[Any]]:
        """The best ``depth`` levels of each side, as a REST reply has them."""
        bids = sorted(self.bids.items(), reverse=True)[:depth]
        asks = sorted(self.asks.items())[:depth]
        return [self.level(*item) for item in bids], [self.level(*item) for item in asks]


def text_of(message: Any, draw: random.Random) -> bytes:
    """JSON with other white space, escapes, key order and unknown fields, as far as the grammar lets a venue go."""
    message = _shaken(message, draw, 0)
    separators = draw.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")])
    text = json.dumps(message, separators=separators)
    if draw.random() < 0.1:  # the same text, spelled with an escape
        text = re.sub(r'"depthUpdate"', lambda _: '"depth\\u0055pdate"', text)
        text = text.replace("/", "\\/")
    return text.encode()


def _shaken(value: Any, draw: random.Random, level: int) -> Any:
    if not isinstance(value, dict) or level > 1:
        return value
    items = [(key, _shaken(item, draw, level + 1)) for key, item in value.items()]
    if draw.random() < 0.3:
        draw.shuffle(items)
    if draw.random() < 0.3:
        items.insert(draw.randrange(len(items) + 1), ("st", draw.choice([1, None, "x", True, 1.5, -3])))
    if draw.random() < 0.1:
        items.append(("new", {"nested": [1, {"u": 5}], "text": 'a"b\\'}))
    return dict(items)


@dataclass
class BinanceMaker:
    """A line capture of one venue: ``futures`` = ids linked by ``pu``."""

    seed: int
    futures: bool
    symbols: int
    messages: int = 400
    named_snapshots: bool = True

    def __post_init__(self) -> None:
        draw = self.draw = random.Random(self.seed)
        ticks = ["0.01", "0.00000001", "0.1", "1", "0.0000025", "0.5"]
        self.wrapped = draw.random() < 0.7
        self.markets = []
        for k in range(self.symbols):
            tick = Decimal(ticks[(self.seed + k) % len(ticks)])
            step = Decimal(draw.choice(["1", "0.001", "0.00001", "0.00000001"]))
            middle = draw.choice([150, 9_000 * (k + 1), 987_654_321])
            name = f"S{k}USDT" if draw.random() < 0.8 else f"S{k}USDT_991231"
            self.markets.append(Market(name, tick, step, middle, draw))
        self.previous = {market.symbol: market.last for market in self.markets}
        self.held: list[tuple[Market, dict[str, Any]]] = []

    def event(self, market: Market) -> dict[str, Any]:
        first, last, bids, asks = market.update(self.draw.choice([1, 1, 2, 40]))
        message: dict[str, Any] = {"e": "depthUpdate", "E": 1, "s": market.symbol, "U": first, "u": last}
        if self.futures:
            message |= {"T": 1, "pu": self.previous[market.symbol]}
            self.previous[market.symbol] = last
        return {**message, "b": bids, "a": asks}

    def snapshot(self, market: Market) -> dict[str, Any]:
        bids, asks = market.levels(self.draw.choice([5, 40, 1000]))
        named = {"symbol": market.symbol} if self.named_snapshots or self.symbols > 1 else {}
        return {"lastUpdateId": market.last, "E": 1, "T": 1, **named, "bids": bids, "asks": asks}

    def lines(self) -> list[bytes]:
        """The messages in recorded order."""
        draw = self.draw
        out: list[bytes] = []
        written: list[dict[str, Any]] = []
        waiting: list[tuple[int, dict[str, Any]]] = []  # snapshots that arrive later

        def put(message: dict[str, Any]) -> None:
            if self.wrapped and "s" in message:
                message = {"stream": f"{message['s'].lower()}@depth@100ms", "data": message}
            out.append(text_of(message, draw))

        for market in self.markets:  # before, right at, or after the first updates
            for _ in range(draw.choice([0, 0, 3])):
                put(self.event(market))
            waiting.append((draw.choice([0, 5, 60]), self.snapshot(market)))
        for number in range(self.messages):
            for item in [item for item in waiting if item[0] <= number]:
                waiting.remove(item)
                put(item[1])
            market = draw.choice(self.markets)
            message = self.event(market)
            luck = draw.random()
            if luck < 0.006:  # lost on the way: the recorder notices and asks for a snapshot
                market.update(1)
                if self.futures:
                    self.previous[market.symbol] = market.last
                waiting.append((number + draw.choice([1, 4, 30]), self.snapshot(market)))
                continue
            put(message)
            written.append(message)
            if luck > 0.97:
                put(draw.choice(written[-40:]))  # an old one again
            if luck > 0.99:
                put({"e": "trade", "E": 1, "s": market.symbol, "t": 5, "p": "1", "q": "2", "T": 5, "m": True})
            if luck > 0.995:
                put({"result": None, "id": 3})
        return out

    def write(self, path: Path) -> None:
        """The file: gzipped or plain, with blank lines and either line end."""
        end = self.draw.choice([b"\n", b"\r\n"])
        rows = [b"%d %s%s" % (START_NS + k, line, end) for k, line in enumerate(self.lines())]
        for _ in range(3):
            rows.insert(self.draw.randrange(len(rows)), end)
        data = b"".join(rows)
        path.write_bytes(gzip.compress(data) if self.draw.random() < 0.7 else data)


@dataclass
class GateMaker:
    """A request log of Gate.io: three files with one prefix."""

    seed: int
    futures: bool
    messages: int = 300
    obu: bool = False

    def __post_init__(self) -> None:
        draw = self.draw = random.Random(self.seed)
        self.sizes = ["10000000", "0.0001", "1", "0.01"]
        self.markets = [
            Market(
                f"C{k}_USDT",
                Decimal(draw.choice(["0.1", "0.00000001", "0.05"])),
                Decimal(1) if self.futures else Decimal(draw.choice(["0.0001", "0.0000000001"])),
                draw.choice([400, 270_000]),
                draw,
                objects=self.futures and not self.obu,
                largest=10**10 if self.futures else 10**17 + 7,
            )
            for k in range(3)
        ]

    def push(self, market: Market, full: bool) -> dict[str, Any]:
        kind = "futures" if self.futures else "spot"
        first, last, bids, asks = market.update(self.draw.choice([1, 1, 3]))
        result: dict[str, Any] = {"t": 1, "s": f"ob.{market.symbol}.50" if self.obu else market.symbol}
        if full:
            bids, asks = market.levels(1000)
            result |= {"full": True, "u": last, "b": bids, "a": asks}
        else:
            result |= {"U": first, "u": last, "b": bids, "a": asks}
            if self.obu:
                for key in ("b", "a"):
                    if not result[key]:
                        del result[key]
        name = "obu" if self.obu else "order_book_update"
        return {"time": 1, "time_ms": 2, "channel": f"{kind}.{name}", "event": "update", "result": result}

    def write(self, prefix: Path) -> None:
        draw = self.draw
        kind = "futures" if self.futures else "spot"
        time = 1_700_000_000.0
        ws: list[str] = ["wss://x/ws/v4/ <-> 1.0", "wss://x/ws/v4/ <- 1.1: {}"]
        http: list[str] = []

        def rest(market: Market) -> None:
            bids, asks = market.levels(draw.choice([10, 100]))
            key = "contract" if self.futures else "currency_pair"
            body = text_of({"id": market.last, "current": 1.5, "bids": bids, "asks": asks}, draw).decode()
            http.append(f"https://x/order_book?{key}={market.symbol}&limit=100&with_id=true -> {time:.7f}: {body}")

        def ws_put(message: dict[str, Any]) -> None:
            ws.append(f"{time:.7f}: {text_of(message, draw).decode()}")

        for market in self.markets:
            ack = {"time": 1, "channel": f"{kind}.x", "event": "subscribe", "result": {"status": "success"}}
            ws_put(ack)
            if self.obu:
                ws_put(self.push(market, True))
            else:
                ws_put(self.push(market, False))
                time += 0.001
                rest(market)
        for _ in range(self.messages):
            time += 0.001
            market = draw.choice(self.markets)
            luck = draw.random()
            message = self.push(market, full=luck < 0.01)
            if 0.01 < luck < 0.02:  # lost; connected again, with a snapshot or a whole book
                time += 0.001
                if self.obu:
                    ws_put(self.push(market, True))
                else:
                    rest(market)
                continue
            ws_put(message)
            if luck > 0.98:
                ws_put(message)
        contracts = [
            {"name": market.symbol, "quanto_multiplier": size}
            for market, size in zip(self.markets, self.sizes, strict=False)
        ]
        Path(f"{prefix}.0").write_text(f"https://x/contracts -> 1.0: {json.dumps(contracts)}\n")
        Path(f"{prefix}.http.0.0").write_text("".join(f"{line}\n" for line in http))
        Path(f"{prefix}.ws.1.0").write_text("".join(f"{line}\n" for line in ws))


# --- the twin: files in, rows out ---


@dataclass
class TwinRun:
    """Books of a recording by the documented rules. A live book takes no snapshot, but the newest one is remembered for
    a hole that comes right after it."""

    rule: str
    books: dict[str, NaiveBook] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    _spare: dict[str, tuple[int, list[Any], list[Any]]] = field(default_factory=dict)

    def book(self, symbol: str) -> NaiveBook:
        return self.books.setdefault(symbol, NaiveBook(self.rule))

    def update(self, symbol: str, event: dict[str, Any]) -> None:
        book = self.book(symbol)
        before = book.last
        verdict = book.update(event)
        if verdict == "applied":
            if event.get("full"):
                book.waiting = []
            self.rows.append((symbol, event["u"], *book.best))
        elif verdict == "gap" and symbol in self._spare:
            spare = self._spare.pop(symbol)
            if before is not None and spare[0] > before:
                self._load(symbol, *spare)

    def snapshot(self, symbol: str, last: int, bids: list[Any], asks: list[Any]) -> None:
        if self.book(symbol).last is None:
            self._load(symbol, last, bids, asks)
        else:
            self._spare[symbol] = (last, bids, asks)

    def _load(self, symbol: str, last: int, bids: list[Any], asks: list[Any]) -> None:
        book = self.book(symbol)
        waiting, book.waiting = book.waiting, []
        book.snapshot(last, bids, asks)
        for k, event in enumerate(waiting):
            verdict = book.update(event)
            if verdict == "applied":
                self.rows.append((symbol, event["u"], *book.best))
            elif verdict == "gap":
                book.gaps -= 1
                book.waiting = waiting[k:]
                return


def twin_of_lines(path: Path, rule: str) -> TwinRun:
    """A line capture through plain books."""
    raw = path.read_bytes()
    data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    run = TwinRun(rule)
    only = {
        message["s"]
        for message in (_unwrapped(line) for line in data.splitlines() if line.strip())
        if message.get("e") == "depthUpdate"
    }
    for line in data.splitlines():
        if not line.strip():
            continue
        message = _unwrapped(line)
        if "lastUpdateId" in message:
            symbol = message.get("symbol") or next(iter(only))
            run.snapshot(symbol, message["lastUpdateId"], decimals(message["bids"]), decimals(message["asks"]))
        elif message.get("e") == "depthUpdate":
            run.update(message["s"], {**message, "b": decimals(message["b"]), "a": decimals(message["a"])})
    return run


def _unwrapped(line: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(line.split(b" ", 1)[1])
    return message.get("data", message)


def twin_of_log(prefix: Path, *, futures: bool) -> TwinRun:
    """A request log through plain books."""
    sizes = {
        row["name"]: Decimal(row["quanto_multiplier"])
        for row in json.loads(Path(f"{prefix}.0").read_text().partition(": ")[2])
        if futures
    }
    found: list[tuple[Decimal, int, str, dict[str, Any]]] = []
    for line in Path(f"{prefix}.http.0.0").read_text().splitlines():
        match = re.fullmatch(r"\S+[?&](?:contract|currency_pair)=(\w+)\S* -> ([0-9.]+): (.*)", line)
        assert match is not None, line
        found.append((Decimal(match[2]), 0, match[1], json.loads(match[3])))
    for line in Path(f"{prefix}.ws.1.0").read_text().splitlines():
        time, _, text = line.partition(": ")
        if line.startswith("wss"):
            continue
        message = json.loads(text)
        if message["event"] == "update":
            symbol = message["result"]["s"]
            symbol = symbol.split(".")[1] if symbol.startswith("ob.") else symbol
            found.append((Decimal(time), 1, symbol, message["result"]))
    run = TwinRun("gate")
    for _, kind, symbol, body in sorted(found, key=lambda item: item[:2]):
        size = sizes.get(symbol, Decimal(1))
        if kind == 0:
            run.snapshot(symbol, body["id"], decimals(body["bids"], size), decimals(body["asks"], size))
        else:
            body = {"U": body["u"], **body}
            levels = {key: decimals(body.get(key, []), size) for key in ("b", "a")}
            run.update(symbol, {**body, **levels})
    return run
