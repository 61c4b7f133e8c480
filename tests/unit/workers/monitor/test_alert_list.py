"""Alerts: told once, counted when they come again, ended when they have gone, acknowledged for good."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.enums import AlertSeverity
from workers.monitor.alert_list import (
    ALERTS_MAX,
    DEDUPE_NS,
    ENDED_AFTER_NS,
    SENT_AGAIN_NS,
    Alert,
    AlertList,
    Condition,
    Kind,
    Message,
    key_of,
)

S = 1_000_000_000
HOUR = 3600 * S
T0 = 1_795_902_811 * S


def condition(text: str, severity: AlertSeverity = AlertSeverity.CRITICAL) -> Condition:
    return Condition(source="engine", severity=severity, text=text, solve="arb status")


def look(alerts: AlertList, at_ns: int, *texts: str) -> list[Kind]:
    return [message.kind for message in alerts.conditions([condition(text) for text in texts], T0 + at_ns, HOUR)]


def test_texts_that_differ_in_figures_alone_are_the_same_alert_and_ids_are_not_figures() -> None:
    assert key_of("a", "process x hangs since 5 s") == key_of("a", "process x hangs since 61 s")
    assert key_of("a", "free 0.88, needed 278.89") == key_of("a", "free 1, needed 2")
    assert key_of("a", "recovery r12 waits") != key_of("a", "recovery r13 waits")
    assert key_of("a", "feed of gateio2_spot") != key_of("a", "feed of gateio3_spot")
    assert key_of("a", "x") != key_of("b", "x")


def test_a_condition_is_told_once_while_it_stands_and_once_when_it_has_ended() -> None:
    alerts = AlertList()
    assert look(alerts, 0, "hangs since 5 s") == [Kind.RAISED]
    assert look(alerts, S, "hangs since 6 s") == []
    assert (alerts.alerts[0].text, alerts.alerts[0].count) == ("hangs since 6 s", 1)
    assert look(alerts, 70 * S) == [Kind.ENDED]
    assert not alerts.alerts[0].standing and alerts.alerts[0].needed
    assert look(alerts, 71 * S) == []


def test_a_short_absence_is_no_end_and_what_comes_and_goes_is_told_at_most_once_a_minute_with_the_truth_last() -> None:
    alerts = AlertList()
    assert look(alerts, 0, "x") == [Kind.RAISED]
    assert look(alerts, 5 * S) == []  # away for 5 s
    assert look(alerts, 6 * S, "x") == []
    assert look(alerts, 6 * S + ENDED_AFTER_NS) == []  # ended, but told of less than a minute ago
    assert alerts.alerts[0].standing is False
    assert look(alerts, 20 * S, "x") == []  # back before its end was told: nothing untrue was said
    assert alerts.alerts[0].count == 2 and len(alerts.alerts) == 1
    assert look(alerts, 20 * S + ENDED_AFTER_NS) == []
    assert look(alerts, SENT_AGAIN_NS) == [Kind.ENDED]


def test_a_condition_that_comes_back_much_later_is_a_new_alert() -> None:
    alerts = AlertList()
    look(alerts, 0, "x")
    look(alerts, 100 * S)
    assert look(alerts, 100 * S + 2 * DEDUPE_NS, "x") == [Kind.RAISED]
    assert [alert.id for alert in alerts.alerts] == ["a1", "a2"]


def test_a_condition_that_grows_worse_is_told_again() -> None:
    alerts = AlertList()
    warned = alerts.conditions([condition("x", AlertSeverity.WARNING)], T0, HOUR)
    worse = alerts.conditions([condition("x", AlertSeverity.CRITICAL)], T0 + S, HOUR)
    assert [m.severity for m in (*warned, *worse)] == [AlertSeverity.WARNING, AlertSeverity.CRITICAL]


def test_a_critical_condition_is_told_again_every_hour_until_somebody_has_acknowledged_it() -> None:
    alerts = AlertList()
    look(alerts, 0, "x")
    assert look(alerts, HOUR, "x") == [Kind.REMINDER]
    assert look(alerts, HOUR + S, "x") == []
    assert [alert.id for alert in alerts.acknowledge("a1", "uid 7", T0)] == ["a1"]
    assert look(alerts, 3 * HOUR, "x") == []
    assert alerts.alerts[0].needed, "it stands"
    assert look(alerts, 3 * HOUR + ENDED_AFTER_NS) == [Kind.ENDED]
    assert not alerts.alerts[0].needed
    assert alerts.acknowledge("all", "uid 7", T0) == []
    with pytest.raises(KeyError):
        alerts.acknowledge("a9", "uid 7", T0)


def test_an_event_is_told_once_and_what_came_again_meanwhile_with_its_count() -> None:
    alerts, event = AlertList(), condition("order refused 7 times")
    first = alerts.event(event, T0, T0)
    assert first is not None and (first.kind, first.count) == (Kind.HAPPENED, 1)
    assert alerts.event(condition("order refused 8 times"), T0 + S, T0 + S) is None
    assert alerts.repeated(T0 + 2 * S) == []
    (again,) = alerts.repeated(T0 + DEDUPE_NS)
    assert (again.count, again.text, again.alert_id) == (2, "order refused 8 times", "a1")
    assert alerts.repeated(T0 + 2 * DEDUPE_NS) == []
    soon = T0 + 2 * DEDUPE_NS + S
    assert alerts.event(event, soon, soon, dedupe_ns=0) is not None


def test_the_list_is_bounded_and_loses_first_what_nobody_needs() -> None:
    alerts = AlertList()
    for number in range(ALERTS_MAX):
        alerts.event(condition(f"r{number} broke"), T0, T0)
    alerts.acknowledge("a7", "uid 7", T0)
    alerts.event(condition("one more"), T0, T0)
    assert len(alerts.alerts) == ALERTS_MAX and alerts.dropped == 0
    assert "a7" not in {alert.id for alert in alerts.alerts}
    look(alerts, 0, "stands")
    assert alerts.dropped == 1 and alerts.alerts[-1].standing and alerts.alerts[0].id == "a2"


def test_the_names_of_the_file_are_those_that_earlier_releases_wrote() -> None:
    alerts = AlertList()
    look(alerts, 0, "x")
    (row,) = msgspec.json.decode(msgspec.json.encode(alerts.alerts))
    assert {"told_wall_ns", "told_standing", "told_count"} <= row.keys()


def test_alerts_survive_a_restart_as_they_are() -> None:
    alerts = AlertList()
    look(alerts, 0, "x", "y")
    alerts.acknowledge("a1", "uid 7", T0)
    kept = msgspec.json.decode(msgspec.json.encode(alerts.alerts), type=list[Alert])
    again = AlertList(kept, next_id=alerts.next_id)
    assert look(again, 2 * S, "x", "y") == [], "both were told before"
    assert again.alerts[0].acked_by == "uid 7"


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=60))
def test_the_last_word_told_of_a_condition_is_the_truth(steps: list[tuple[int, bool]]) -> None:
    """However it comes and goes: once it has been quiet for long enough, what was told last is what is so."""
    alerts, now_ns, sent = AlertList(), T0, list[Message]()
    for seconds, so in steps:
        now_ns += seconds * S
        sent += alerts.conditions([condition("x")] if so else [], now_ns, HOUR)
    so = bool(steps) and steps[-1][1]
    for _ in range(8):
        now_ns += 10 * S
        sent += alerts.conditions([condition("x")] if so else [], now_ns, HOUR)
    kinds = [message.kind for message in sent]
    assert (kinds[-1] is Kind.RAISED) if so else (not kinds or kinds[-1] is Kind.ENDED)
    assert kinds == [Kind.RAISED, Kind.ENDED] * (len(kinds) // 2) + [Kind.RAISED] * (len(kinds) % 2)
