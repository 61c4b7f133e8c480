"""The closed set of errors; the blame is in the type.

::

    ArbitrageEngineError
    +-- ConfigInvalid            the operator's input; lists every error with its path; nothing was started
    +-- BadInput                 a file or argument that is not what it should be (capture, opportunity file)
    +-- VenueError
    |   +-- VenueRejected        the venue said no: final, nothing was executed
    |   |   +-- RateLimited      429 or the venue's own code; carries retry_after_s
    |   |   +-- InsufficientBalance
    |   |   +-- AuthRefused      key, signature, permission, IP: never retried in a loop
    |   |   +-- TradingDisabled  instrument or direction is closed
    |   |   +-- OrderNotFound    of a query or a cancel: not proof that the order never existed
    |   +-- OutcomeUnknown       timeout, 5xx, disconnect after bytes left: reconcile, never resend
    |   +-- VenueUnavailable     nothing was sent
    |   +-- ProtocolViolation    bytes that the venue's documents do not allow: count, drop, resync
    +-- ShmError                 shared memory
    |   +-- SegmentMismatch      wrong layout, schema, build, owner or size
    |   +-- SegmentBusy          a live owner holds it
    |   +-- SegmentMissing       nobody has created it
    |   +-- ShmFull              no room in the shared-memory file system
    +-- JournalError             append or replay failed; the process must not send
    +-- OrderExecutionError      an operation failed and went to recovery
    +-- RiskManagementError      a limit or breaker stands in the way
    +-- RecoveryError            recovery could not finish without an operator

Messages say what was found, what was wanted, and what to do next. ``code`` is ours, ``api_code`` the venue's.
"""

from __future__ import annotations

from shm.errors import (
    ArbitrageEngineError,
    SegmentBusy,
    SegmentMismatch,
    SegmentMissing,
    ShmError,
    ShmFull,
)

# The root and the branch of shared memory are defined in shm/, the lowest room, and belong to this tree.
__all__ = [
    "ArbitrageEngineError",
    "AuthRefused",
    "BadInput",
    "ConfigInvalid",
    "InsufficientBalance",
    "JournalError",
    "OrderExecutionError",
    "OrderNotFound",
    "OutcomeUnknown",
    "ProtocolViolation",
    "RateLimited",
    "RecoveryError",
    "RiskManagementError",
    "SegmentBusy",
    "SegmentMismatch",
    "SegmentMissing",
    "ShmError",
    "ShmFull",
    "TradingDisabled",
    "VenueError",
    "VenueRejected",
    "VenueUnavailable",
]


class ConfigInvalid(ArbitrageEngineError):
    """Configuration refused. ``errors`` holds one ``path: found, wanted`` line each."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("configuration refused:\n" + "\n".join(f"  {line}" for line in errors))
        self.errors = errors


class BadInput(ArbitrageEngineError):
    """A file or argument is not what it should be. ``result``: what was done before that was found."""

    def __init__(self, message: str, result: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.result = result or {}


class VenueError(ArbitrageEngineError):
    def __init__(self, message: str, *, venue: str = "", code: int = 0, api_code: str = "") -> None:
        super().__init__(message, code=code, api_code=api_code)
        self.venue = venue


class VenueRejected(VenueError):
    pass


class RateLimited(VenueRejected):
    def __init__(self, message: str, *, retry_after_s: float, venue: str = "", api_code: str = "") -> None:
        super().__init__(message, venue=venue, code=429, api_code=api_code)
        self.retry_after_s = retry_after_s


class InsufficientBalance(VenueRejected):
    pass


class AuthRefused(VenueRejected):
    pass


class TradingDisabled(VenueRejected):
    pass


class OrderNotFound(VenueRejected):
    pass


class OutcomeUnknown(VenueError):
    pass


class VenueUnavailable(VenueError):
    pass


class ProtocolViolation(VenueError):
    pass


class JournalError(ArbitrageEngineError):
    pass


class OrderExecutionError(ArbitrageEngineError):
    pass


class RiskManagementError(ArbitrageEngineError):
    pass


class RecoveryError(ArbitrageEngineError):
    pass
