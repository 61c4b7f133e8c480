"""``arb execute FILE``: an operator's opportunity, read, checked and sent to the executor's gate.

Two shapes are understood, as JSON or YAML: the engine's own legs

    {"type": "spot_spot", "legs": [{"venue", "symbol", "side", "qty", "limit_price"}, ...]}

and the opportunity of the Python interface (``symbol`` is the pair, ``buy_exchange``/``sell_exchange`` are venues):

    {"opportunity_type": "SPOT_SPOT", "symbol": "BTC/USDT", "buy_exchange": "mexc_spot", "sell_exchange": "gateio_spot",
     "buy_price": "64000", "sell_price": "64100", "max_quantity": "0.01"}
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import parse_decimal
from pipeline.model.structs import ArbitrageOpportunity
from workers.control_plane.instances import existing
from workers.control_socket import ask_supervisor

LEG_KEYS = ("venue", "symbol", "side", "qty", "limit_price")
TYPES = ("spot_spot", "spot_futures_hedge", "triangular")
REPLY_TIMEOUT_S = 20.0  # above the supervisor's own time-out for the executor
FILE_BYTES_MAX = 64 * 1024
HELP = "see `arb execute --help`"


def execute_file(path: Path, instance: str) -> dict[str, Any]:
    """Read ``path`` and execute it on ``instance``. Raises BadInput listing what is wrong, ControlError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}), wanted an opportunity; {HELP}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise BadInput(f"{path}: found {len(raw)} bytes, wanted at most {FILE_BYTES_MAX}; {HELP}")
    try:
        data = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise BadInput(f"{path}: found neither JSON nor YAML, wanted one of them: {problem}; {HELP}") from None
    opportunity = parse_opportunity(data, str(path))
    name = existing(instance)
    if any("/" in leg["symbol"] for leg in opportunity["legs"]):  # a pair: each venue has its own symbol for it
        reply = ask_supervisor(name, {"op": "symbols"})
        symbols = {(row["venue"], row["pair"]): row["symbol"] for row in reply["instruments"]}
        for leg in opportunity["legs"]:
            leg["symbol"] = symbols.get((leg["venue"], leg["symbol"]), leg["symbol"])
    return execute_request(opportunity, name)


def execute_request(opportunity: dict[str, Any], instance: str) -> dict[str, Any]:
    """Send a checked opportunity to the instance's executor and wait until its operation has ended.

    Returns ``final_state``, ``total_execution_time_ms``, ``realized_profit`` and, where it was refused, ``reason``.
    Raises ControlError, BadInput.
    """
    request = {"op": "execute", "opportunity": opportunity}
    reply = ask_supervisor(instance, request, timeout_s=REPLY_TIMEOUT_S)
    return {"total_execution_time_ms": None, "realized_profit": None, **reply}


def parse_opportunity(data: object, where: str) -> dict[str, Any]:
    """Check an opportunity in either accepted form; the executor's form of it. Raises BadInput with every error."""
    if not isinstance(data, dict):
        raise BadInput(f"{where}: found {type(data).__name__}, wanted a mapping with type and legs; {HELP}")
    errors: list[str] = []
    kind = str(data.get("type", data.get("opportunity_type", "spot_spot"))).lower()
    if kind not in TYPES:
        errors.append(f"type: found {kind!r}, wanted one of {', '.join(TYPES)}")
    legs = data.get("legs")
    if legs is None:
        legs = _legs_of_pair(data, errors)
    elif not isinstance(legs, list) or not 2 <= len(legs) <= 3:
        found = f"{len(legs)} legs" if isinstance(legs, list) else type(legs).__name__
        errors.append(f"legs: found {found}, wanted a list of two or three")
        legs = []
    checked = [_leg(leg, f"legs[{number}]", errors) for number, leg in enumerate(legs)]
    if errors:
        raise BadInput(f"{where}: {'; '.join(errors)}; {HELP}")
    return {"type": kind, "legs": checked}


def _legs_of_pair(data: Mapping[str, Any], errors: list[str]) -> list[dict[str, Any]]:
    missing = [
        key
        for key in ("symbol", "buy_exchange", "sell_exchange", "buy_price", "sell_price", "max_quantity")
        if key not in data
    ]
    if missing:
        errors.append(f"found neither legs nor {', '.join(missing)}, wanted legs or a pair and two venues")
        return []
    return [
        {
            "venue": data[f"{side}_exchange"],
            "symbol": data.get(f"{side}_symbol", data["symbol"]),
            "side": side,
            "qty": data["max_quantity"],
            "limit_price": data[f"{side}_price"],
        }
        for side in ("buy", "sell")
    ]


def _leg(leg: object, where: str, errors: list[str]) -> dict[str, str]:
    if not isinstance(leg, dict):
        errors.append(f"{where}: found {type(leg).__name__}, wanted a mapping with {', '.join(LEG_KEYS)}")
        return {}
    missing = [key for key in LEG_KEYS if key not in leg]
    unknown = sorted(set(map(str, leg)) - set(LEG_KEYS))
    errors.extend(f"{where}.{key}: missing" for key in missing)
    errors.extend(f"{where}.{key}: unknown key, wanted {', '.join(LEG_KEYS)}" for key in unknown)
    if missing:
        return {}
    if str(leg["side"]).lower() not in ("buy", "sell"):
        errors.append(f"{where}.side: found {leg['side']!r}, wanted buy or sell")
    for key in ("qty", "limit_price"):
        try:
            positive = parse_decimal(str(leg[key])) > 0
        except ValueError as error:
            errors.append(f"{where}.{key}: {error}")
            continue
        if not positive:
            errors.append(f"{where}.{key}: found {leg[key]}, wanted a number above 0")
    return {key: str(leg[key]) for key in LEG_KEYS}


def request_of(opportunity: ArbitrageOpportunity, symbols: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The executor's form of a Python user's opportunity. ``symbols``: (venue, pair) -> the venue's own symbol.

    Raises BadInput where a venue does not list the pair.
    """
    legs = []
    for side, venue, price in (
        ("buy", opportunity.buy_exchange, opportunity.buy_price),
        ("sell", opportunity.sell_exchange, opportunity.sell_price),
    ):
        symbol = symbols.get((venue, opportunity.symbol))
        if symbol is None:
            raise BadInput(
                f"found no instrument of {venue} for {opportunity.symbol}, wanted a listed pair; see `arb symbols list`"
            )
        legs.append(
            {
                "venue": venue,
                "symbol": symbol,
                "side": side,
                "qty": format(opportunity.max_quantity, "f"),
                "limit_price": format(Decimal(price), "f"),
            }
        )
    return {"type": opportunity.opportunity_type.name.lower(), "legs": legs}
