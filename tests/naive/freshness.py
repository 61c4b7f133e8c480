"""The plain judge of frame times: one connection's lateness and disorder, as words say it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Clock:
    """A venue's clock against ours; without one, the least gap ever seen is on time."""

    offset_ms: int | None = None
    ahead_ms: int | None = None  # how far ahead of it frames have been
    least_gap_ms: int | None = None

    def late_ms(self, venue_time: int, recv_ns: int) -> int:
        venue_ms = venue_time // 1000 if venue_time >= 10**14 else venue_time
        gap = recv_ns // 1_000_000 - venue_ms
        if self.offset_ms is not None and abs(gap + self.offset_ms) < 3_600_000:
            return gap + self.offset_ms
        self.least_gap_ms = gap if self.least_gap_ms is None else min(gap, self.least_gap_ms)
        return gap - self.least_gap_ms

    def is_ahead(self, venue_time: int, recv_ns: int) -> bool:
        if self.offset_ms is None:
            return False
        venue_ms = venue_time // 1000 if venue_time >= 10**14 else venue_time
        ahead = venue_ms - (recv_ns // 1_000_000 + self.offset_ms)
        if self.ahead_ms is not None and ahead > self.ahead_ms + 500:
            return True
        self.ahead_ms = max(ahead, self.ahead_ms or 0)
        return False


@dataclass
class Judge:
    """``on_time``: whether the connection's frames prove anything; ``back_ms``: the largest step backward."""

    clock: Clock
    lag_ms: int
    error_ms: int = 0  # what the venue's clock leaves open
    on_time: bool = False
    time_max: int = 0
    late_ns: int = 0
    back_ms: int = 0
    said: list[str] = field(default_factory=list)

    def frame(self, venue_time: int, recv_ns: int) -> None:
        if venue_time <= 0:
            if not self.on_time and not self.time_max:
                self.on_time = True
                self.said.append("on time")
            return
        late = self.clock.late_ms(venue_time, recv_ns)
        if self.clock.is_ahead(venue_time, recv_ns):
            self.late_ns, self.on_time = recv_ns, False
        elif late + self.error_ms > 500:
            self.late_ns = recv_ns
            if self.on_time:
                self.on_time = False
                self.said.append("late")
        elif not self.on_time and late < 250 and recv_ns - self.late_ns > 200_000_000:
            self.on_time = True
            self.said.append("on time")
        back = self.time_max - venue_time
        self.time_max = max(self.time_max, venue_time)
        if back > 0 and recv_ns - self.late_ns > 5_000_000_000:
            back_ms = back // 1000 if back > 250_000 else back
            if back_ms <= 250:
                self.back_ms = max(self.back_ms, back_ms)
                if back_ms > self.lag_ms:
                    self.said.append(f"disorder {back_ms}")
