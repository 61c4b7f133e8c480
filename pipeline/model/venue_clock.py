"""What is known of a venue's clock."""

from __future__ import annotations

SERVER_STEP_NS = 1_000_000  # venues tell whole milliseconds
MEASURE_EVERY_S = 5  # a reading takes of the venue's request budget, which the account needs as well
DRIFT_DIVISOR = 20_000  # a quartz drifts by less than one part in so many


class ClockEstimate:
    """A venue's unix time less our monotonic time, from many answers of its time endpoint.

    An answer lies within half its round trip of the truth. One that agrees with what is known, and is less sharp, adds
    nothing; one that does not agree shows that a clock was moved, and counts at once.
    """

    __slots__ = ("_at_ns", "error_ns", "offset_ns")

    def __init__(self) -> None:
        self.offset_ns = 0  # 0 = never measured
        self.error_ns = 0  # of the answer that counts, when it came
        self._at_ns = 0

    def learn(self, server_ms: int, sent_mono_ns: int, recv_mono_ns: int) -> None:
        """One answer, to a question sent at ``sent_mono_ns`` and answered at ``recv_mono_ns``."""
        error_ns = (recv_mono_ns - sent_mono_ns) // 2 + SERVER_STEP_NS
        offset_ns = server_ms * 1_000_000 + SERVER_STEP_NS // 2 - (sent_mono_ns + recv_mono_ns) // 2
        known_error_ns = self.error_ns + (recv_mono_ns - self._at_ns) // DRIFT_DIVISOR
        agrees = abs(offset_ns - self.offset_ns) <= error_ns + known_error_ns
        if not self.offset_ns or not agrees or error_ns <= known_error_ns:
            self.offset_ns, self.error_ns, self._at_ns = offset_ns, error_ns, recv_mono_ns
