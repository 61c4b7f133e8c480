"""Client libraries that are imported when a test first uses them: collection would pay two seconds for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class _Later:
    """Stands for a module; ``load`` imports it."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what pytest asks of every name in a test module, as "__test__"
            raise AttributeError(name)
        return getattr(self._load(), name)


def _ccxt() -> Any:
    import ccxt

    return ccxt


def _ccxt_pro() -> Any:
    import ccxt.pro

    return ccxt.pro


def _mexc_push() -> Any:
    from ccxt.protobuf.mexc import PushDataV3ApiWrapper_pb2

    return PushDataV3ApiWrapper_pb2


def _gate_api() -> Any:
    import gate_api

    return gate_api


def _pybit() -> Any:
    from pybit import unified_trading

    return unified_trading


def _pybit_trade() -> Any:
    from pybit import _websocket_trading

    return _websocket_trading


ccxt = _Later(_ccxt)
ccxt_pro = _Later(_ccxt_pro)
mexc_push = _Later(_mexc_push)  # ccxt's own reading of MEXC's protobuf pushes
gate_api = _Later(_gate_api)
pybit = _Later(_pybit)
pybit_trade = _Later(_pybit_trade)  # where its URL of order entry stands
