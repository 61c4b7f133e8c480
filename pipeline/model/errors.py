"""The tree of errors; the type says who is to blame and what may be concluded.

::

    ArbitrageEngineError
    +-- ConfigInvalid            the operator's input; lists every error with its path; nothing was started
    +-- BadInput                 a file or argument that is not what it should be (capture, opportunity file)
    +-- VenueError
    |   +-- VenueRejected        refused by the venue: final, nothing was executed
    |   |   +-- RateLimited      429 or the venue's own code; carries retry_after_s
    |   |   +-- InsufficientBalance
    |   |   +-- AuthRefused      key, signature, permission, IP, by the venue's own code: asked again every few minutes
    |   |   +-- TradingDisabled  instrument or direction is closed
    |   |   +-- OrderNotFound    of a query or a cancel: not proof that the order never existed
    |   +-- OutcomeUnknown       timeout, 5xx, disconnect after bytes left: reconcile, never resend
    |   |   +-- GatewayRefused   an answer without the venue's own code (CDN, WAF, proxy): back off, come again
    |   +-- VenueUnavailable     nothing was sent
    |   +-- AccountSettingsWrong the account stands in a mode in which orders mean something else; names the fixing call
    |   +-- ProtocolViolation    bytes that the venue's documents do not allow: count, drop, resync
    |       +-- RowsUnreadable   of a list: rows of ours cannot be read; carries the others
    +-- ShmError                 shared memory
    |   +-- SegmentMismatch      wrong layout, schema, build, owner or size
    |   +-- SegmentBusy          a live owner holds it
    |   +-- SegmentMissing       it does not exist
    |   +-- ShmFull              no room in the shared-memory file system
    +-- JournalError             append or replay failed; the process must not send
    +-- OrderExecutionError      an operation failed and went to recovery
    +-- RiskManagementError      a limit or breaker stands in the way
    +-- RecoveryError            recovery could not finish without an operator

Messages say what was found, what was wanted, and what to do next. ``code`` is ours, ``api_code`` the venue's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shm.errors import (
    ArbitrageEngineError,
    SegmentBusy,
    SegmentMismatch,
    SegmentMissing,
    ShmError,
    ShmFull,
)

if TYPE_CHECKING:
    from pipeline.model.structs import UnreadableRow

# The root and the branch of shared memory are defined in shm/, the lowest package, and belong to this tree.
__all__ = [
    "AccountSettingsWrong",
    "ArbitrageEngineError",
    "AuthRefused",
    "BadInput",
    "ClockRefused",
    "ConfigInvalid",
    "GatewayRefused",
    "InstrumentRefused",
    "InsufficientBalance",
    "JournalError",
    "OrderExecutionError",
    "OrderNotFound",
    "OutcomeUnknown",
    "ProtocolViolation",
    "RateLimited",
    "RecoveryError",
    "RiskManagementError",
    "RowsUnreadable",
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
    """Anything that went wrong with a venue; ``venue`` names it where known, ``api_code`` is the venue's own code."""

    def __init__(self, message: str, *, venue: str = "", code: int = 0, api_code: str = "") -> None:
        super().__init__(message, code=code, api_code=api_code)
        self.venue = venue


class VenueRejected(VenueError):
    """The venue refused: final, nothing was executed."""


class RateLimited(VenueRejected):
    """429 or the venue's own code for it; nothing of the kind may be sent for ``retry_after_s`` seconds, and nothing at
    all from this address where ``of_address``."""

    def __init__(
        self, message: str, *, retry_after_s: float, venue: str = "", api_code: str = "", of_address: bool = False
    ) -> None:
        super().__init__(message, venue=venue, code=429, api_code=api_code)
        self.retry_after_s = retry_after_s
        self.of_address = of_address


class InsufficientBalance(VenueRejected):
    """The venue refused for want of balance or margin."""


class AuthRefused(VenueRejected):
    """Key, signature, permission or IP refused by the venue's own code: asked again every few minutes, no sooner."""


class ClockRefused(VenueRejected):
    """The venue refused a request for its time: it came after its window, or one of the clocks is wrong."""


class InstrumentRefused(VenueRejected):
    """The venue refused an order for its symbol, steps or amounts: the instrument's row may be another by now."""


class TradingDisabled(VenueRejected):
    """The venue has closed the instrument or the direction."""


class OrderNotFound(VenueRejected):
    """Of a query or a cancel: no proof that the order never existed."""


class OutcomeUnknown(VenueError):
    """Time-out, 5xx or disconnect after bytes left: reconcile, never send again."""


class GatewayRefused(OutcomeUnknown):
    """Somebody before the venue answered (CDN, WAF, proxy): no word about a key or an order, and it passes.

    ``retry_after_s``: the silence that the answer asks for; 0 = none named."""

    def __init__(self, message: str, *, venue: str = "", code: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message, venue=venue, code=code, api_code=str(code) if code else "")
        self.retry_after_s = retry_after_s


class VenueUnavailable(VenueError):
    """Nothing was sent."""


class AccountSettingsWrong(VenueError):
    """Position mode, account mode, margin mode or leverage is not what we count with: the venue is not traded until
    the call that the message names has been made."""


SETTINGS_FIX = "; fix: "  # what such an error's text puts before what mends it


def settings_fix(text: str) -> tuple[str, str]:
    """(what is wrong, what mends it as a sentence) by the text of an ``AccountSettingsWrong``; a bare call of the
    venue's API is not all that an operator is told."""
    wrong, _, fix = text.partition(SETTINGS_FIX)
    if fix.startswith(("POST ", "PUT ")):
        fix = (
            "change that in the account's settings at the venue, with nothing open there (`arb close --all`), or by "
            f"its call {fix}"
        )
    return wrong, fix or "change that in the account's settings at the venue"


class ProtocolViolation(VenueError):
    """Bytes that the venue's documents do not allow: count, drop, resync. ``symbol``: whose, where a frame says it."""

    symbol = ""


class RowsUnreadable(ProtocolViolation):
    """A list in which rows of ours cannot be read. ``rows``: what could be read, as the call would have returned it;
    ``unreadable``: what is missing. Who cannot go on without them treats it as an answer that failed."""

    def __init__(self, message: str, *, venue: str, rows: list[Any], unreadable: tuple[UnreadableRow, ...]) -> None:
        super().__init__(message, venue=venue)
        self.rows = rows
        self.unreadable = unreadable


class JournalError(ArbitrageEngineError):
    """Append or replay failed: the process must send nothing."""


class OrderExecutionError(ArbitrageEngineError):
    """An operation cannot go the step that was asked for, or failed and went to recovery."""


class RiskManagementError(ArbitrageEngineError):
    """A limit or breaker stands in the way."""


class RecoveryError(ArbitrageEngineError):
    """A recovery cannot be finished without an operator."""
