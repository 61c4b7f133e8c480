"""The alerts of an instance: what stands, what has happened, what has been sent, who has acknowledged it.

Two kinds. A **condition** stands until it has gone (a reason of the one answer, a latency that is worse than before).
An **event** happened (an alert of the executor, an error of a process). Both are sent once: what comes again counts up
in the same alert. What has been sent is compared with what is so at every look, so that the last message about a
condition is true, however often it comes and goes. Times are wall clock, given by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from pipeline.model.enums import AlertSeverity
from pipeline.model.units import NS_PER_S

ALERTS_MAX = 200  # kept in the list; the oldest that nobody needs any more goes first
DEDUPE_NS = 300 * NS_PER_S  # what happens again so soon counts up, and is not sent again
ENDED_AFTER_NS = 10 * NS_PER_S  # a condition has ended when it has been away for so long
SENT_AGAIN_NS = 60 * NS_PER_S  # a condition that comes and goes is sent at most this often
TEXT_CHARS_MAX = 1000
_NUMBER = re.compile(r"(?<![\w.-])\d+(\.\d+)?(?![\w-])")  # a figure, not a part of a name or an id (r12, 17-3)


class Kind(StrEnum):
    """What a message says of its alert."""

    RAISED = "raised"  # a condition has come
    ENDED = "ended"  # and gone
    HAPPENED = "happened"
    REMINDER = "reminder"  # a critical condition still stands, and nobody has acknowledged it


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is so now. ``source``: the component or process that it is about."""

    source: str
    severity: AlertSeverity
    text: str
    solve: str = ""


class Alert(msgspec.Struct, kw_only=True):
    """One row of ``arb alerts``. ``standing``: a condition that has not ended; None: an event."""

    id: str
    key: str
    source: str
    severity: AlertSeverity
    text: str
    solve: str
    first_wall_ns: int
    last_wall_ns: int  # of a condition: when it was last seen to stand
    standing: bool | None
    count: int = 1
    sent_wall_ns: int = msgspec.field(default=0, name="told_wall_ns")  # of its newest message; 0 = none
    sent_standing: bool = msgspec.field(default=False, name="told_standing")  # as that message says
    sent_count: int = msgspec.field(default=0, name="told_count")
    acked_by: str = ""
    acked_wall_ns: int = 0

    @property
    def needed(self) -> bool:
        """Whether somebody has yet to look at it: it stands, or nobody has acknowledged it."""
        return bool(self.standing) or not self.acked_by


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent about an alert: its content when it was made."""

    kind: Kind
    alert_id: str
    severity: AlertSeverity
    source: str
    text: str
    solve: str
    count: int
    since_wall_ns: int
    wall_ns: int


def key_of(source: str, text: str) -> str:
    """Equal for texts that differ in figures alone: they are the same alert."""
    return f"{source}|{_NUMBER.sub('#', text)}"[:TEXT_CHARS_MAX]


class AlertList:
    """All alerts, oldest first. ``dropped``: alerts that had to go while somebody still needed them."""

    def __init__(self, alerts: Iterable[Alert] = (), *, next_id: int = 1, dropped: int = 0) -> None:
        self.alerts = list(alerts)
        self.next_id = next_id
        self.dropped = dropped

    def conditions(self, found: Iterable[Condition], now_wall_ns: int, remind_ns: int) -> list[Message]:
        """Take in everything that is so now; the messages that follow."""
        now = {key_of(condition.source, condition.text): condition for condition in found}
        for key, condition in now.items():
            self._seen(key, condition, now_wall_ns)
        messages = []
        for alert in self.alerts:
            if alert.standing and alert.key not in now and now_wall_ns - alert.last_wall_ns >= ENDED_AFTER_NS:
                alert.standing = False
            if alert.standing is not None and (kind := _due(alert, now_wall_ns, remind_ns)) is not None:
                alert.sent_wall_ns, alert.sent_standing = now_wall_ns, bool(alert.standing)
                messages.append(_message(alert, kind, now_wall_ns))
        self._trim()
        return messages

    def _seen(self, key: str, condition: Condition, now_wall_ns: int) -> None:
        alert = self._of_key(key, now_wall_ns, standing=(True, False))
        if alert is None:
            self._append(key, condition, now_wall_ns, standing=True)
            return
        if not alert.standing:
            alert.standing = True
            alert.count += 1
            alert.acked_by, alert.acked_wall_ns = "", 0
        alert.text, alert.solve = condition.text[:TEXT_CHARS_MAX], condition.solve
        alert.last_wall_ns = now_wall_ns
        if condition.severity.rank > alert.severity.rank:
            alert.severity, alert.sent_standing, alert.sent_wall_ns = condition.severity, False, 0

    def event(self, event: Condition, wall_ns: int, now_wall_ns: int, *, dedupe_ns: int = DEDUPE_NS) -> Message | None:
        """Something has happened at ``wall_ns``; the message, where the same was not sent within ``dedupe_ns``."""
        key = key_of(event.source, event.text)
        alert = self._of_key(key, now_wall_ns, standing=(None,))
        if alert is None or event.severity is not alert.severity:
            alert = self._append(key, event, wall_ns, standing=None)
        else:
            alert.count += 1
            alert.last_wall_ns = max(alert.last_wall_ns, wall_ns)
            alert.text = event.text[:TEXT_CHARS_MAX]
        if alert.sent_wall_ns and now_wall_ns - alert.sent_wall_ns < dedupe_ns:
            return None
        alert.sent_wall_ns, alert.sent_count = now_wall_ns, alert.count
        self._trim()
        return _message(alert, Kind.HAPPENED, now_wall_ns)

    def repeated(self, now_wall_ns: int) -> list[Message]:
        """Events that came again after they were sent: one message each, once they may be sent again."""
        due = [
            alert
            for alert in self.alerts
            if alert.standing is None
            and alert.count > alert.sent_count
            and now_wall_ns - alert.sent_wall_ns >= DEDUPE_NS
        ]
        for alert in due:
            alert.sent_wall_ns, alert.sent_count = now_wall_ns, alert.count
        return [_message(alert, Kind.HAPPENED, now_wall_ns) for alert in due]

    def acknowledge(self, alert_id: str, by: str, now_wall_ns: int) -> list[Alert]:
        """Note that somebody knows of an alert (``all``: of every one); the alerts that this changed. Raises KeyError
        for an id that no alert has."""
        if alert_id != "all" and not any(alert.id == alert_id for alert in self.alerts):
            raise KeyError(alert_id)
        wanted = [alert for alert in self.alerts if alert_id in ("all", alert.id) and not alert.acked_by]
        for alert in wanted:
            alert.acked_by, alert.acked_wall_ns = by, now_wall_ns
        return wanted

    def _of_key(self, key: str, now_wall_ns: int, standing: tuple[bool | None, ...]) -> Alert | None:
        """The newest alert of a key that goes on: one that stands, or was seen lately and is not acknowledged away."""
        for alert in reversed(self.alerts):
            if alert.key == key and alert.standing in standing:
                lately = now_wall_ns - max(alert.last_wall_ns, alert.sent_wall_ns) < DEDUPE_NS
                return alert if alert.standing or lately else None
        return None

    def _append(self, key: str, what: Condition, wall_ns: int, *, standing: bool | None) -> Alert:
        alert = Alert(
            id=f"a{self.next_id}",
            key=key,
            source=what.source,
            severity=what.severity,
            text=what.text[:TEXT_CHARS_MAX],
            solve=what.solve,
            first_wall_ns=wall_ns,
            last_wall_ns=wall_ns,
            standing=standing,
        )
        self.next_id += 1
        self.alerts.append(alert)
        return alert

    def _trim(self) -> None:
        while len(self.alerts) > ALERTS_MAX:
            victim = next((alert for alert in self.alerts if not alert.needed), None)
            if victim is None:
                victim = next((alert for alert in self.alerts if not alert.standing), self.alerts[0])
                self.dropped += 1
            self.alerts.remove(victim)


def _due(alert: Alert, now_wall_ns: int, remind_ns: int) -> Kind | None:
    """What is to be sent of a condition now."""
    if bool(alert.standing) != alert.sent_standing:
        if alert.sent_wall_ns and now_wall_ns - alert.sent_wall_ns < SENT_AGAIN_NS:
            return None
        return Kind.RAISED if alert.standing else Kind.ENDED
    remind = alert.standing and alert.severity is AlertSeverity.CRITICAL and not alert.acked_by
    return Kind.REMINDER if remind and now_wall_ns - alert.sent_wall_ns >= remind_ns else None


def _message(alert: Alert, kind: Kind, now_wall_ns: int) -> Message:
    return Message(
        kind=kind,
        alert_id=alert.id,
        severity=alert.severity,
        source=alert.source,
        text=alert.text,
        solve=alert.solve if kind is not Kind.ENDED else "",
        count=alert.count,
        since_wall_ns=alert.first_wall_ns,
        wall_ns=now_wall_ns,
    )
