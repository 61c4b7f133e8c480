"""What answers of gateways, and silences that venues ask for, do to a client's budgets."""

from __future__ import annotations

from pipeline.exchanges.transport.backoff import gateway_backoff
from pipeline.exchanges.transport.throttle import Throttle
from pipeline.model.clock import mono_ns
from pipeline.model.errors import GatewayRefused, RateLimited, VenueError

SERVER_ERRORS = range(500, 600)  # of one answer: a busy back end, which others may get past


class GatewayWatch:
    """Silences the buckets that a gateway refuses, longer the longer it lasts, until the venue answers again.

    ``count``: gateways' answers so far; ``last``: the newest one's text; ``since_mono_ns``: when the present series
    began, 0 = the venue itself answered last.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._pauses = gateway_backoff()
        self._silent_until_ns = 0
        self.count = 0
        self.last = ""
        self.since_mono_ns = 0

    def note(self, error: VenueError | None, bucket: str, *, ban_is_of_bucket: bool = False) -> None:
        """One whole answer to a request of ``bucket``; ``error``: what it carried, None for a success.

        ``ban_is_of_bucket``: a silence that the venue asks for is this bucket's alone (limits of order entry)."""
        if isinstance(error, GatewayRefused):
            self._refused(error, bucket)
            return
        if self.since_mono_ns:
            self.since_mono_ns = 0
            self._pauses.reset()
        if isinstance(error, RateLimited):
            self._throttle.silence(error.retry_after_s, bucket if ban_is_of_bucket else "")

    def _refused(self, error: GatewayRefused, bucket: str) -> None:
        now_ns = mono_ns()
        self.count += 1
        self.last = error.message
        self.since_mono_ns = self.since_mono_ns or now_ns
        if error.code in SERVER_ERRORS and not error.retry_after_s:
            return  # who asks paces himself; a 503 in a thousand must not keep an order waiting
        if now_ns >= self._silent_until_ns:  # answers to requests that left before the silence do not lengthen it
            pause_s = self._pauses.next_s(error.retry_after_s)
            self._silent_until_ns = now_ns + int(pause_s * 1e9)
        self._throttle.silence((self._silent_until_ns - now_ns) / 1e9, bucket)
