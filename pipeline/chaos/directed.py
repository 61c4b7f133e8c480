"""Directed schedules: one difficulty each, written by hand. Crashes are enumerated on them."""

from __future__ import annotations

from typing import Any

from pipeline.chaos.schedule import PRODUCTION_MS, SHORT_MS, Schedule, Step

MEXC, GATE, FUTURES = "mexc_spot", "gateio_spot", "gateio_futures"
HEDGED_MS = 900  # an open hedge stands by then


def _move(at_ms: int, venue: str, symbol: str, bps: int, for_ms: int = 300) -> Step:
    return {"at_ms": at_ms, "do": "move", "venue": venue, "symbol": symbol, "bps": bps, "for_ms": for_ms}


def _fault(at_ms: int, kind: str, **rule: Any) -> Step:
    return {"at_ms": at_ms, "do": "fault", "rule": {"kind": kind, **rule}}


def _do(at_ms: int, word: str, **fields: Any) -> Step:
    return {"at_ms": at_ms, "do": word, **fields}


def _gains(at_ms: int) -> list[Step]:
    """An entry that nothing hurts; the book that stays is told anew, so that it is later than the fills before."""
    return [_move(at_ms, GATE, "ETH_USDT", 0), _move(at_ms + 20, MEXC, "ETHUSDT", -40)]


_ENTRY = _move(500, MEXC, "BTCUSDT", -40)
_HEDGE = _move(500, FUTURES, "BTC_USDT", 40)
_DEAR = _move(850, FUTURES, "BTC_USDT", 8, 3000)  # too little to enter, enough to make the contract the better seller
_OF_BTC = ((MEXC, "BTCUSDT"), (GATE, "BTC_USDT"), (FUTURES, "BTC_USDT"))
_SILENT = _fault(0, "drop_event", venue=GATE, target="private", count=60)
_BLIND = [
    _fault(0, "stale", venue=GATE, target=target, delay_ms=5000, duration_ms=9000)
    for target in ("finished_orders", "open_orders", "trades", "order")
]

_TWO_ENTRIES = [_ENTRY, _move(800, MEXC, "ETHUSDT", -40)]
_LESS = "1260"  # USD: less than an entry of BTC, more than one of ETH, which is taken at the end
_SCOPES = {"per_venue": GATE, "per_asset": "BTC", "per_pair": "BTC/USDT"}
_OF_SCOPE: dict[str, dict[str, Any]] = {
    "off": {"enabled": False},
    "position": {"max_position_size_usd": _LESS},
    "exposure": {"max_exposure_usd": _LESS},
}
#: One limit that is in the way of an entry, and nothing else that is.
_TIGHT: dict[str, tuple[list[Step], dict[str, Any]]] = {
    "tight position": ([_ENTRY], {"max_position_size_usd": _LESS}),
    "tight exposure": ([_ENTRY], {"max_total_exposure_usd": _LESS}),
    "tight rate": (_TWO_ENTRIES, {"max_orders_per_s": 3}),
    "tight profit": ([_ENTRY], {"min_profit_usd": "5"}),
    "tight per_venue rate": (_TWO_ENTRIES, {"per_venue": {MEXC: {"max_orders_per_s": 1}}}),
    **{
        f"tight {scope} {what}": ([_ENTRY], {scope: {name: limit}})
        for scope, name in _SCOPES.items()
        for what, limit in _OF_SCOPE.items()
    },
    "tight operations": (
        [
            _fault(0, "drop_request", venue=GATE, target="place"),
            _fault(0, "drop_request", venue=MEXC, target="place"),
            _ENTRY,
            _move(1700, MEXC, "ETHUSDT", -40, 200),
        ],
        {"max_open_operations": 1},
    ),
    "tight naked value": (
        [
            _fault(0, "reject", venue=GATE, target="place", count=1, reason="insufficient_balance"),
            _fault(0, "delay_response", venue=GATE, target="place", count=1, delay_ms=100),
            _ENTRY,
            *(_fault(550, "halt_symbol", venue=venue, symbol=symbol) for venue, symbol in _OF_BTC),
            _move(870, MEXC, "ETHUSDT", -40),  # before `max_unhedged_ms` is over
            _fault(4000, "resume_symbol"),
            _do(4500, "crash", after=0),
            _move(4600, MEXC, "ETHUSDT", -40),
        ],
        {"max_unhedged_ms": 400, "max_naked_usd_s": "50"},
    ),
    "tight unexplained loss": (
        [
            _fault(0, "drop_event", venue=GATE, target="private", count=60),
            _fault(0, "stale", venue=GATE, target="account_book", delay_ms=20_000),
            _fault(100, "withdraw", venue=GATE, asset="USDT", amount="60"),
            _move(6000, FUTURES, "BTC_USDT", 40),
        ],
        {},
    ),
}

_STEPS: dict[str, tuple[list[Step], dict[str, Any]]] = {
    "entry": ([_ENTRY], {}),
    "hedge": ([_HEDGE, _move(1500, FUTURES, "BTC_USDT", -40)], {}),
    "lost request": ([_fault(0, "drop_request", venue=GATE, target="place"), _ENTRY], {}),
    "lost answer": ([_fault(0, "drop_response", venue=GATE, target="place"), _ENTRY], {}),
    "lost answer, silent stream": ([_SILENT, _fault(0, "drop_response", venue=GATE, target="place"), _ENTRY], {}),
    "lost answer, lists that lag": (
        [_SILENT, *_BLIND, _fault(0, "drop_response", venue=GATE, target="place"), _ENTRY],
        {},
    ),
    "broken leg": ([_fault(0, "reject", venue=GATE, target="place", reason="insufficient_balance"), _ENTRY], {}),
    "late beyond expiry": ([_fault(0, "delay_request", venue=GATE, target="place", delay_ms=1500), _ENTRY], {}),
    "late fill": ([_fault(0, "late_fill", venue=GATE, target="place", delay_ms=1500), _ENTRY], {}),
    "too many requests": (
        [
            _fault(0, "rate_limit", venue=GATE, target="place", retry_after_s=2.0),
            _ENTRY,
            _move(1000, MEXC, "ETHUSDT", -40),
        ],
        {},
    ),
    "too many requests for an exit": (
        [
            _HEDGE,
            _fault(1400, "rate_limit", venue=FUTURES, target="place", retry_after_s=1.0),
            _move(1500, FUTURES, "BTC_USDT", -40),
        ],
        {},
    ),
    "two orders without an answer": (
        [
            _fault(0, "drop_request", venue=FUTURES, target="place"),
            _fault(0, "drop_request", venue=MEXC, target="place", after=1),
            _HEDGE,
        ],
        {},
    ),
    "session lost in flight": ([_ENTRY, _fault(501, "disconnect", venue=GATE, target="all")], {}),
    "liquidation of a hedge": ([_HEDGE, _DEAR, _fault(HEDGED_MS, "liquidate", venue=FUTURES, symbol="BTC_USDT")], {}),
    "partial deleveraging": ([_HEDGE, _fault(HEDGED_MS, "adl", venue=FUTURES, symbol="BTC_USDT", amount="0.01")], {}),
    "halt in flight": ([_ENTRY, _do(501, "halt", for_ms=1500), _move(700, MEXC, "ETHUSDT", -40)], {}),
    "process stands still": ([_do(0, "pause", for_ms=600), _ENTRY], {}),
    "gapped book": ([_do(0, "gap", venue=MEXC, symbol="BTCUSDT", for_ms=2000), _ENTRY], {}),
    "session lost, much to trade": (
        [
            _fault(0, "http_error", venue=GATE, target="finished_orders", count=3),
            _fault(300, "disconnect", venue=GATE, target="all"),
            _move(620, MEXC, "BTCUSDT", -40, 1500),
        ],
        {},
    ),
    "an unknown order and a tight limit": (
        [
            _fault(0, "drop_request", venue=GATE, target="place"),
            _fault(0, "drop_request", venue=MEXC, target="place"),
            _ENTRY,
            _move(1700, MEXC, "ETHUSDT", -40, 200),
        ],
        {"max_total_exposure_usd": "2000"},
    ),
    "hardly any money": (
        [
            _fault(0, "withdraw", venue=GATE, asset="USDT", amount="58200"),
            _fault(0, "withdraw", venue=MEXC, asset="USDT", amount="58200"),
            _do(200, "rearm"),
            _fault(3500, "delay_response", venue=GATE, target="place", count=4, delay_ms=300),
            _fault(3500, "delay_request", venue=GATE, target="place", count=4, delay_ms=100),
            _move(4000, GATE, "BTC_USDT", -40),
            _move(4003, GATE, "ETH_USDT", -40),
        ],
        {},
    ),
    "money that is spent and not yet reported": (
        [
            _fault(0, "withdraw", venue=GATE, asset="USDT", amount="58200"),
            _do(200, "rearm"),
            _fault(3900, "delay_stream", venue=GATE, target="private", delay_ms=1500, duration_ms=1000),
            _move(4010, GATE, "BTC_USDT", -40),
            _move(4110, GATE, "ETH_USDT", -40, 60),
        ],
        {},
    ),
    "a hold, and a restart": (
        [
            _fault(0, "reject", venue=GATE, target="place", count=1, reason="insufficient_balance"),
            _fault(0, "delay_response", venue=GATE, target="place", count=1, delay_ms=100),
            _ENTRY,
            _fault(550, "halt_symbol", venue=GATE, symbol="BTC_USDT"),
            _fault(550, "halt_symbol", venue=MEXC, symbol="BTCUSDT"),
            _fault(4000, "resume_symbol"),
            _do(4500, "crash", after=0),
            _move(4600, MEXC, "ETHUSDT", -40),  # refused, and that is an action
        ],
        {"max_unhedged_ms": 200},
    ),
    "nobody takes the repair": (
        [
            _fault(0, "drop_request", venue=GATE, target="place", count=1),
            _fault(501, "reject", venue=MEXC, target="place", count=14, reason="symbol_halted"),
            _fault(501, "reject", venue=GATE, target="place", count=14, reason="symbol_halted"),
            _ENTRY,
        ],
        {},
    ),
    "sweeps that fail": (
        [
            _SILENT,
            _fault(0, "drop_response", venue=GATE, target="place"),
            _fault(0, "http_error", venue=GATE, target="finished_orders", count=6, status=503),
            _fault(0, "http_error", venue=GATE, target="order", count=30, status=503),
            _fault(0, "http_error", venue=GATE, target="trades", count=30, status=503),
            _ENTRY,
        ],
        {},
    ),
    "acknowledged after its fills": (
        [_fault(0, "delay_response", venue=GATE, target="place", delay_ms=100), _ENTRY],
        {},
    ),
    "an old detection again": (
        [
            _ENTRY,
            _move(505, GATE, "BTC_USDT", 0),
            _move(506, MEXC, "BTCUSDT", -40),  # both books are later than our fills: only its pause holds the direction
            _do(510, "repeat", times=3),
            _do(900, "repeat", times=3),
        ],
        {},
    ),
    "the guard closes a naked leg": (
        [
            _fault(0, "delay_request", venue=GATE, target="place", delay_ms=2600),
            _ENTRY,
            _do(520, "takeover", for_ms=3000),
        ],
        {},
    ),
    "the guard closes a hedge": ([_HEDGE, _do(HEDGED_MS, "takeover", for_ms=2500)], {}),
    "the guard finds an order without an answer": (
        [_SILENT, _fault(0, "drop_response", venue=GATE, target="place"), _ENTRY, _do(520, "takeover", for_ms=4000)],
        {},
    ),
    "the guard is called off early": (
        [
            _fault(0, "reject", venue=GATE, target="place", reason="insufficient_balance"),
            _ENTRY,
            _do(505, "takeover", for_ms=60),
        ],
        {},
    ),
    "a leg that loses": (
        [
            _fault(0, "drop_request", venue=GATE, target="place"),
            _move(500, MEXC, "BTCUSDT", -40, 20),
            *(_move(540, venue, symbol, -100, 4000) for venue, symbol in _OF_BTC),
            *(_move(3500 + 500 * number, MEXC, "ETHUSDT", -40) for number in range(4)),
        ],
        {"max_daily_loss_usd": "4"},
    ),
    "a hedge that loses": (
        [
            _HEDGE,
            _move(1500, FUTURES, "BTC_USDT", 90, 4000),
            *(_move(3000 + 500 * number, MEXC, "ETHUSDT", -40) for number in range(4)),
        ],
        {"max_daily_loss_usd": "4"},
    ),
    "a leg that loses what all days may": (
        [
            _fault(0, "drop_request", venue=GATE, target="place"),
            _move(500, MEXC, "BTCUSDT", -40, 20),
            *(_move(540, venue, symbol, -100, 4000) for venue, symbol in _OF_BTC),
            *(_move(3500 + 500 * number, MEXC, "ETHUSDT", -40) for number in range(4)),
        ],
        {"max_total_loss_usd": "4"},
    ),
    "a leg that loses more than was gained": (
        [
            _do(0, "drain", venue=FUTURES, for_ms=8000),  # no hedges: what they gain is not booked before they end
            *_gains(200),
            *_gains(700),
            _fault(2500, "drop_request", venue=GATE, target="place"),
            _move(2600, MEXC, "BTCUSDT", -40, 20),
            *(_move(2640, venue, symbol, -100, 4000) for venue, symbol in _OF_BTC),
            *_gains(6000),
            *_gains(6500),
        ],
        {"max_total_loss_usd": "6"},
    ),
    "a leg alone, and more to trade": (
        [
            _fault(0, "reject", venue=GATE, target="place", count=1, reason="insufficient_balance"),
            _fault(0, "delay_response", venue=GATE, target="place", count=1, delay_ms=100),
            _ENTRY,
            *(_fault(550, "halt_symbol", venue=venue, symbol=symbol) for venue, symbol in _OF_BTC),
            _move(1500, MEXC, "ETHUSDT", -40),
            _fault(4000, "resume_symbol"),
            _do(4500, "crash", after=0),
            _move(4600, MEXC, "ETHUSDT", -40),
        ],
        {"max_unhedged_ms": 400},
    ),
    "a leg alone whose contract another hedge holds the other way": (
        [
            _fault(400, "reject", venue=FUTURES, target="place", count=2, after=1, reason="insufficient_balance"),
            _fault(1850, "drop_request", venue=MEXC, target="place", count=1),
            _move(2070, FUTURES, "ETH_USDT", 18),
            _move(3165, FUTURES, "ETH_USDT", -40),
            _move(4870, MEXC, "ETHUSDT", -12, 800),
        ],
        {},
    ),
    "death before the send": ([_do(499, "crash", after=3), _ENTRY], {}),
    **_TIGHT,
}

_PRODUCTION_WINDOWS = frozenset({"nobody takes the repair"})
#: The guard takes over in these: its deaths are enumerated, and those of the executor that follows it.
TAKEN_OVER = (
    "the guard closes a naked leg",
    "the guard closes a hedge",
    "the guard finds an order without an answer",
    "the guard is called off early",
)
#: Crashes are enumerated on these; the others are long, or their subject is another.
CRASHED = (
    "entry",
    "hedge",
    "lost request",
    "lost answer",
    "lost answer, silent stream",
    "broken leg",
    "late beyond expiry",
    "late fill",
    "too many requests",
    "session lost in flight",
    "liquidation of a hedge",
    "partial deleveraging",
)


def directed() -> dict[str, Schedule]:
    """Name -> schedule."""
    return {
        name: Schedule(
            1,
            tuple(sorted(steps, key=lambda step: step["at_ms"])),
            PRODUCTION_MS if name in _PRODUCTION_WINDOWS else SHORT_MS,
            limits,
            name,
        )
        for name, (steps, limits) in _STEPS.items()
    }
