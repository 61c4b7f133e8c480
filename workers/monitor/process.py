"""The monitor: tells people what is wrong, and serves metrics and health on loopback. Not in the trading path.

It maps shared memory read-only and reads ``executor.json``, ``halt.json`` and ``run.json``; the trading processes
neither know of it nor wait for it, and it holds no key of an exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import aiohttp
import msgspec

from pipeline.model.config_monitoring import HEARTBEAT, MonitoringConfig
from pipeline.model.errors import BadInput, ConfigInvalid
from shm.metrics import Metrics
from workers.audit_log import audit, who
from workers.base import WorkerContext, run_worker
from workers.control_socket import MONITOR_SOCKET, ControlServer
from workers.credentials import load_alert_urls
from workers.monitor.alert_file import AlertState, read_alerts, set_aside_broken, write_alerts
from workers.monitor.alert_list import AlertList
from workers.monitor.alert_view import alert_rows, alerts_text, target_rows
from workers.monitor.chat import Chat
from workers.monitor.delivery import Delivery
from workers.monitor.exposition import metrics_text
from workers.monitor.lasting import lasting
from workers.monitor.log_events import LogEvents, boot_id
from workers.monitor.page import page_html
from workers.monitor.server import HOST, MonitorServer
from workers.monitor.targets import DeliveryFailed, chat_address, make_targets, post_json, target_urls
from workers.monitor.watch import Watch
from workers.report.recent import read_recent
from workers.tradable import utc
from workers.view.status_text import short_text, status_text

LOOK_S = 1.0
PAGE_KEPT_NS = 1_000_000_000
FLUSH_S = 4.0  # how long an orderly stop waits for messages that are on their way


class Monitor:
    """One run of the process, inside its event loop."""

    def __init__(
        self, ctx: WorkerContext, config: MonitoringConfig, urls: dict[str, str], session: aiohttp.ClientSession
    ) -> None:
        self._ctx = ctx
        self._config = config
        self._session = session
        self._heartbeat_url = urls.get(HEARTBEAT, "")
        self._heartbeat_problem = ""
        self._disk_problem = ""
        self._written = b""
        before = self._read_state()
        self._boot_id = boot_id()
        self._logs = LogEvents(ctx.instance, before.log_positions if before.boot_id == self._boot_id else {})
        targets, self.refused = make_targets(config, urls, session)
        self.delivery = Delivery(ctx.instance, targets, before.targets, config.queue_max, ctx.say)
        self.alerts = AlertList(before.alerts, next_id=before.next_id, dropped=before.dropped)
        self.watch = Watch(ctx.instance, config, self.alerts, self._logs, self.delivery.put, ctx.say)
        self.server = MonitorServer(
            self._metrics, self.watch.health, lambda: status_text(self._reading()), self._page_of_now
        )
        self._chat = self._open_chat(urls.get(config.chat, ""))
        self._page = (0, "")  # made at, monotonic ns
        self._url = ""
        counter = ctx.metrics.counter
        self._looks = counter("looks", "looks at the instance")
        self._lost = counter("log_slots_lost", "slots of log rings overwritten before this process had read them")
        self._beats = counter("heartbeats_sent", "heartbeats that were taken")

    def _open_chat(self, url: str) -> Chat | None:
        """The chat that may ask and halt, where one is configured and its URL can be one."""
        if not self._config.chat or not url:
            return None
        address = chat_address(url)
        if address is None:
            wanted = "wanted tgram://NUMBER:TOKEN/CHAT with the number of one chat"
            self.refused.append(
                f"monitoring.chat: the URL of target {self._config.chat} is no chat that is read, {wanted}"
            )
            return None
        return Chat(
            address,
            self._session,
            self._ctx.state_dir,
            status=lambda: short_text(self._reading()),
            alerts=lambda: alerts_text(alert_rows(self.alerts.alerts)),
            say=self._ctx.say,
            api=self._config.telegram_api,
        )

    def _read_state(self) -> AlertState:
        found = read_alerts(self._ctx.state_dir)
        if found is None:
            with contextlib.suppress(OSError):
                if set_aside_broken(self._ctx.state_dir):
                    self._ctx.say("error", "alerts.json cannot be read; it is set aside as alerts.broken.json")
        return found or AlertState()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, look and tell until ``stop``; then the last look."""
        if not await self.server.start(self._config.port):
            text = f"port {self._config.port} is taken: metrics and health are at http://{HOST}:{self.server.port}/"
            self._ctx.say("warning", text)
        self._url = f"http://{HOST}:{self.server.port}/"
        control = ControlServer(self._ctx.state_dir / MONITOR_SOCKET, self._handle, self._ctx.say)
        await control.start()
        self.delivery.start()
        works = {HEARTBEAT: self._heartbeat} if self._heartbeat_url else {}
        if self._chat is not None:
            works["chat"] = self._chat.run
        tasks = [asyncio.create_task(lasting(name, work, self._ctx.say)) for name, work in works.items()]
        self._ctx.liveness.parked = True
        self._ctx.ready(f"{self._url}metrics, {len(self.delivery.states)} targets")
        try:
            while not stop.is_set():
                self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await stop.wait()
            self.watch.stopped(time.time_ns())
            await self.delivery.flush(FLUSH_S)
        finally:
            for task in tasks:
                task.cancel()
            await self.delivery.close()
            await control.close()
            await self.server.close()
            self._save()

    def _look(self) -> None:
        self.watch.look(time.monotonic_ns(), time.time_ns())
        self._save()
        self._ctx.metrics.inc(self._looks)
        self._ctx.metrics.set(self._lost, self._logs.lost)
        self._ctx.progress()

    def _save(self) -> None:
        """Write ``alerts.json`` where something has changed; a disk that refuses is said once."""
        state = AlertState(
            url=self._url,
            next_id=self.alerts.next_id,
            dropped=self.alerts.dropped,
            alerts=self.alerts.alerts,
            targets=self.delivery.states,
            boot_id=self._boot_id,
            log_positions=self._logs.positions(),
        )
        content = msgspec.json.encode(state)
        if content == self._written:
            return
        state.wall_ns = time.time_ns()
        try:
            write_alerts(self._ctx.state_dir, state)
        except OSError as error:
            problem = error.strerror or str(error)
            if problem != self._disk_problem:
                self._ctx.say(
                    "error", f"alerts.json cannot be written ({problem}); alerts are sent, and kept in memory"
                )
            self._disk_problem = problem
            return
        self._disk_problem = ""
        self._written = content

    # --- what is served ---

    def _reading(self) -> dict[str, Any]:
        rows = {"alerts": alert_rows(self.alerts.alerts), "targets": target_rows(self.delivery.states)}
        return {**self.watch.reader.read(), **rows}

    def _metrics(self) -> bytes:
        return metrics_text(self._reading(), Metrics.attach_all(self._ctx.instance))

    def _page_of_now(self) -> str:
        """The page; for all who look within a second it is made once."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._page[0] + PAGE_KEPT_NS or not self._page[1]:
            wall_ns = time.time_ns()
            recent = read_recent(self._ctx.state_dir / "ledger.sqlite", wall_ns)
            self._page = (now_ns, page_html(self._reading(), recent, wall_ns))
        return self._page[1]

    async def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Requests of ``arb alerts``: ``ack`` with the ``id`` of an alert, or ``all``."""
        if request.get("op") != "ack":
            raise BadInput(f"op: found {request.get('op')!r}, wanted ack")
        alert_id, by = str(request.get("id", "")), who(request.get("uid"))
        try:
            changed = self.alerts.acknowledge(alert_id, by, time.time_ns())
        except KeyError:
            raise BadInput(f"found no alert {alert_id!r}; `arb alerts` lists them") from None
        audit(self._ctx.state_dir, op="ack", by=by, reason="", alerts=[alert.id for alert in changed])
        self._save()
        return {"acknowledged": [alert.id for alert in changed], "alerts": alert_rows(self.alerts.alerts)}

    # --- heartbeat ---

    async def _heartbeat(self) -> None:
        """POST to the dead-man URL while the supervisor lives: whoever stops hearing it must look."""
        while True:
            if self.watch.supervisor_alive():
                await self._beat()
            await asyncio.sleep(self._config.heartbeat_every_s)

    async def _beat(self) -> None:
        problem = ""
        try:
            fields = {"instance": self._ctx.instance, "at": utc(time.time_ns())}
            await post_json(self._session, self._heartbeat_url, fields)
            self._ctx.metrics.inc(self._beats)
        except DeliveryFailed as error:
            problem = str(error)
        if problem and problem != self._heartbeat_problem:
            self._ctx.say("error", f"{HEARTBEAT}: {problem}")
        self._heartbeat_problem = problem


def _urls(ctx: WorkerContext, config: MonitoringConfig) -> tuple[dict[str, str], list[str]]:
    """(URLs by target, what is wrong with them)."""
    try:
        kept = load_alert_urls(ctx.instance)
    except ConfigInvalid as error:
        return target_urls(config, {})[0], error.errors
    return target_urls(config, kept)


async def _run(ctx: WorkerContext, config: MonitoringConfig) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(ctx.stop_fd, stop.set)
    urls, errors = _urls(ctx, config)
    async with aiohttp.ClientSession() as session:
        monitor = Monitor(ctx, config, urls, session)
        errors = [*errors, *monitor.refused]
        if errors and not ctx.restarts:
            raise ConfigInvalid(errors)
        for text in errors:  # a later start goes on with the targets that it has
            ctx.say("error", text)
        await monitor.run(stop)


def run(ctx: WorkerContext) -> None:
    """The monitor's life: looks every second until SIGTERM. Raises ConfigInvalid at a first start whose targets cannot
    be reached, and where ``monitoring`` is not configured."""
    if ctx.config.monitoring is None:
        raise ConfigInvalid(["monitoring: missing, wanted the section that says where alerts go; see README.md"])
    asyncio.run(_run(ctx, ctx.config.monitoring))


def main() -> int:
    """``python -m workers.monitor --instance I --config F``."""
    return run_worker("monitor", run)
