"""What the monitor looks at, a second apart: log rings, the one answer, counters; and the alerts that follow from it.

Nothing here sends or serves: messages are handed to ``put``. Nothing here decides about trading.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.enums import AlertSeverity, ProcessState
from pipeline.model.units import NS_PER_S
from pipeline.trade_state import TradeState
from shm.errors import ShmError
from shm.liveness import LivenessView
from shm.metrics import Metrics
from workers.control_plane.instances import described as instance_description
from workers.last_run.half_done import left_open_text
from workers.monitor.alert_list import AlertList, Condition, Message, key_of
from workers.monitor.conditions import conditions_of, unhealthy_components
from workers.monitor.log_events import LogEvents, condition_text
from workers.monitor.meters import Meters
from workers.tradable import fields, is_starting
from workers.view.status import Reader

METERS_NS = 5 * NS_PER_S
HEALTH_NS = 30 * NS_PER_S  # every unhealthy component is named in the log so often
START_NS = 120 * NS_PER_S  # a start that takes longer is reported
HELD_NS = 3 * NS_PER_S  # a line that the one answer is about to tell too
Say = Callable[[str, str], None]
Put = Callable[[Message], None]


class Watch:
    """The looks of one instance. ``alerts``: what has come of them."""

    def __init__(
        self, instance: str, config: MonitoringConfig, alerts: AlertList, logs: LogEvents, put: Put, say: Say
    ) -> None:
        self.alerts = alerts
        self.reader = Reader(instance)
        self._instance = instance
        self._logs = logs
        self._put = put
        self._say = say
        self._meters = Meters(config)
        self._remind_ns = config.remind_every_s * NS_PER_S
        self._worse: list[Condition] = []
        self._held: deque[tuple[int, int, Condition]] = deque()  # due, wall ns of the line, event
        self._seen_before: set[str] = set()
        self._began_ns = time.monotonic_ns()
        self._was_ready = False
        self._meters_at_ns = self._health_at_ns = 0
        self._problem = ""

    def look(self, mono_ns: int, wall_ns: int) -> None:
        """One look: everything that has happened or is so since the last."""
        for at_ns, event in self._logs.poll():
            if condition_text(event.text) is None:
                self._event(event, at_ns, wall_ns)
            else:
                self._held.append((mono_ns + HELD_NS, at_ns, event))
        if mono_ns >= self._meters_at_ns:
            self._meters_at_ns = mono_ns + METERS_NS
            self._look_at_meters(mono_ns, wall_ns)
        conditions = self._conditions(mono_ns, wall_ns)
        if conditions is not None:
            for message in self.alerts.conditions(conditions, wall_ns, self._remind_ns):
                self._put(message)
            self._say_unhealthy(conditions, mono_ns)
        self._tell_held(mono_ns, wall_ns)
        for message in self.alerts.repeated(wall_ns):
            self._put(message)

    def stopped(self, wall_ns: int) -> None:
        """The last look of this process: what was said meanwhile; where the instance stops, what stays open at the
        venues. Where this process alone is stopped, its successor tells the rest."""
        for at_ns, event in self._logs.poll():
            self._event(event, at_ns, wall_ns)
        self._tell_held(None, wall_ns)
        if not self._instance_stops():
            return
        left = left_open_text(self.reader.state_dir)
        text = f"the instance stops; open at the venues, and nobody watches it: {left}"
        event = Condition(
            source="engine",
            severity=AlertSeverity.WARNING if left else AlertSeverity.INFO,
            text=text if left else "the instance stops; nothing stays open at the venues",
            solve=(
                "arb hedges; start it again (arb status names the command): it ends what is half done; then "
                "arb close --all"
                if left
                else ""
            ),
        )
        self._event(event, wall_ns, wall_ns, dedupe_ns=0)

    def _instance_stops(self) -> bool:
        """Whether the supervisor ends it in order, or those are gone who trade (units stop before this one, and the
        supervisor's after it)."""
        views = {
            name: LivenessView.attach(self._instance, name, missing_ok=True)
            for name in ("supervisor", "guard", "executor")
        }
        supervisor = views["supervisor"]
        if supervisor.alive() and supervisor.state in (ProcessState.STOPPING, ProcessState.STOPPED):
            return True
        return not (views["guard"].alive() or views["executor"].alive())

    def supervisor_alive(self) -> bool:
        """Whether the instance's supervisor lives."""
        return LivenessView.attach(self._instance, "supervisor", missing_ok=True).alive()

    def _event(self, event: Condition, at_wall_ns: int, wall_ns: int, **how: int) -> None:
        message = self.alerts.event(event, at_wall_ns, wall_ns, **how)
        if message is not None:
            self._put(message)

    def _tell_held(self, mono_ns: int | None, wall_ns: int) -> None:
        """Lines that were held and are due (all, where there is no later look): those that no condition tells."""
        standing = {alert.text for alert in self.alerts.alerts if alert.standing}
        while self._held and (mono_ns is None or self._held[0][0] <= mono_ns):
            _, at_ns, event = self._held.popleft()
            if condition_text(event.text) not in standing:
                self._event(event, at_ns, wall_ns)

    def _look_at_meters(self, mono_ns: int, wall_ns: int) -> None:
        try:
            metrics = Metrics.attach_all(self._instance)
        except ShmError as error:  # memory of another build
            self._trouble(str(error))
            return
        self._worse, events = self._meters.look(metrics, mono_ns)
        for event in events:
            self._event(event, wall_ns, wall_ns)

    def _conditions(self, mono_ns: int, wall_ns: int) -> list[Condition] | None:
        """What is wrong now; None while that says nothing: a start that goes on, an orderly stop.

        What stands for less than a second (a process that is killed and is there again) is reported by the lines of who
        saw it; a halt is reported at once.
        """
        supervisor = LivenessView.attach(self._instance, "supervisor", missing_ok=True)
        if supervisor.alive() and supervisor.state in (ProcessState.STOPPING, ProcessState.STOPPED):
            return None
        described = instance_description(self._instance)
        if not self._was_ready and is_starting(described) and mono_ns - self._began_ns < START_NS:
            return None
        if not self._was_ready and described.get("state") == "ready":
            self._was_ready = True
            text = f"the instance is READY, mode {described.get('mode')}: {', '.join(described.get('venues', {}))}"
            self._event(
                Condition(source="engine", severity=AlertSeverity.INFO, text=text), wall_ns, wall_ns, dedupe_ns=0
            )
        try:
            answer = self.reader.answer()
        except ShmError as error:
            self._trouble(str(error))
            return None
        self._trouble("")
        found = [*conditions_of(answer.reasons), *self._worse]
        keys = {key_of(condition.source, condition.text): condition for condition in found}
        standing = [c for key, c in keys.items() if key in self._seen_before or c.text.startswith("HALTED")]
        self._seen_before = set(keys)
        return standing

    def _say_unhealthy(self, conditions: list[Condition], mono_ns: int) -> None:
        if mono_ns < self._health_at_ns:
            return
        self._health_at_ns = mono_ns + HEALTH_NS
        for component, texts in unhealthy_components(conditions).items():
            self._say("critical", f"unhealthy: {component}: {'; '.join(texts)}")

    def _trouble(self, problem: str) -> None:
        """Say once what keeps the look from its memory."""
        if problem and problem != self._problem:
            self._say("error", f"shared memory cannot be read: {problem}")
        self._problem = problem

    def health(self) -> tuple[bool, dict[str, Any]]:
        """(whether new risk is taken, the fields of ``/healthz``), as the one answer says it. Raises ShmError."""
        answer = self.reader.answer()
        return answer.state in (TradeState.READY, TradeState.DEGRADED), {
            "instance": self._instance,
            "state": str(answer.state),
            "reasons": [fields(reason) for reason in answer.reasons],
            "notes": [fields(reason) for reason in answer.notes],
        }
