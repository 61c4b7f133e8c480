"""How connections and requests are made; the documents' figures are the defaults."""

from __future__ import annotations

import msgspec

from pipeline.model.errors import BadInput

RETRIES_MAX = 10


class ConnectionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of HTTP connections. Times in s. Raises BadInput for what is no count or time."""

    connector_limit: int = 100
    connector_limit_per_host: int = 30
    connect_timeout: float = 5.0
    total_timeout: float = 30.0
    keepalive_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise BadInput(f"ConnectionConfig.{name}: found {getattr(self, name)!r}, wanted more than 0")


class RequestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of requests: seconds for each attempt, and how often a GET that failed is asked again.

    Only questions are repeated, whatever ``max_retries`` says: an order that was not answered may have been taken.
    The seconds begin when the request leaves: budgets and silences are waited for before. ``require_auth``: the client
    must have a key. ``weight``: units of the venue's limit that one attempt uses; 0 = the most that the engine's own
    questions at the path weigh, else 1. Raises BadInput."""

    timeout: float = 5.0
    max_retries: int = 2
    require_auth: bool = False
    weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise BadInput(f"RequestConfig.timeout: found {self.timeout!r}, wanted more than 0 s")
        if not 0 <= self.max_retries <= RETRIES_MAX:
            raise BadInput(f"RequestConfig.max_retries: found {self.max_retries!r}, wanted 0 to {RETRIES_MAX}")
        if not 0 <= self.weight < float("inf"):
            raise BadInput(f"RequestConfig.weight: found {self.weight!r}, wanted 0 or more units")


def create_market_data_config() -> RequestConfig:
    """5 s, 2 repetitions, no key."""
    return RequestConfig()


def create_trading_config() -> RequestConfig:
    """10 s, 3 repetitions of questions, a key."""
    return RequestConfig(timeout=10.0, max_retries=3, require_auth=True)
