"""Messages to real receivers on loopback: bounded, in order, tried again, and no word of a URL in what is said."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pipeline.model.config_load import config_from_mapping
from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.enums import AlertSeverity
from pipeline.model.errors import ConfigInvalid
from tests.worlds.monitor.webhook_receiver import WebhookReceiver
from tests.worlds.waiting import until_async
from workers.credentials import load_alert_urls
from workers.monitor import delivery as delivery_module
from workers.monitor.alert_file import TargetState
from workers.monitor.alert_list import Kind, Message
from workers.monitor.delivery import Delivery
from workers.monitor.targets import Target, make_targets, target_urls, text_of
from workers.state_folder import instance_dir

SECRET = "s3cr3t-token"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    found = WebhookReceiver()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(delivery_module, "PAUSE_MAX_S", 0.02)


def message(number: int, severity: AlertSeverity = AlertSeverity.CRITICAL) -> Message:
    return Message(
        kind=Kind.RAISED, alert_id=f"a{number}", severity=severity, source="risk", text=f"breaker {number}",
        solve="arb breakers", count=1, since_wall_ns=0, wall_ns=1_795_902_811_000_000_000,
    )  # fmt: skip


def settings(**targets: dict[str, Any]) -> MonitoringConfig:
    found = config_from_mapping({"monitoring": {"targets": targets}}).monitoring
    assert found is not None
    return found


def deliver(
    config: MonitoringConfig,
    work: Callable[[Delivery], Awaitable[None]],
    *,
    states: dict[str, TargetState] | None = None,
    queue_max: int = 100,
) -> tuple[dict[str, TargetState], list[str]]:
    """Run ``work`` with the targets of a configuration; how they stand then, and what was said."""
    said: list[str] = []

    async def main() -> dict[str, TargetState]:
        async with aiohttp.ClientSession() as session:
            targets, errors = make_targets(config, target_urls(config, {})[0], session)
            assert errors == []
            box = Delivery(
                "main", targets, states or {}, queue_max, lambda level, text: said.append(f"{level}: {text}")
            )
            box.start()
            try:
                await work(box)
            finally:
                await box.close()
            return box.states

    return asyncio.run(main()), said


def test_a_message_reaches_every_target_that_wants_its_severity(receiver: WebhookReceiver) -> None:
    config = settings(all={"url": receiver.url + "all", "severity": "info"}, worst={"url": receiver.url + "worst"})

    async def work(box: Delivery) -> None:
        box.put(message(1, AlertSeverity.INFO))
        box.put(message(2))
        await until_async(lambda: box.idle)

    states, said = deliver(config, work)
    assert [fields["id"] for fields in receiver.messages("/all")] == ["a1", "a2"]
    assert [fields["id"] for fields in receiver.messages("/worst")] == ["a2"]
    assert receiver.messages("/worst")[0] == {
        "text": "[critical] main: risk: breaker 2; solve: arb breakers [a2]",
        "instance": "main",
        "id": "a2",
        "kind": "raised",
        "severity": "critical",
        "source": "risk",
        "what": "breaker 2",
        "solve": "arb breakers",
        "count": 1,
        "since": None,
        "at": "2026-11-28T21:53:31Z",
    }
    assert {name: state.sent for name, state in states.items()} == {"all": 2, "worst": 1}
    assert said == []


def test_a_target_that_is_down_is_tried_again_in_order_and_delays_nobody_else(receiver: WebhookReceiver) -> None:
    reserved = socket.socket()  # bound and not listening: a connection is refused, and nobody else takes the port
    reserved.bind(("127.0.0.1", 0))
    port = int(reserved.getsockname()[1])
    config = settings(down={"url": f"http://127.0.0.1:{port}/{SECRET}"}, up={"url": receiver.url})
    late: list[WebhookReceiver] = []

    async def work(box: Delivery) -> None:
        for number in range(3):
            box.put(message(number))
        await until_async(lambda: box.states["up"].sent == 3 and box.states["down"].failed_attempts > 2)
        assert box.states["down"].sent == 0
        late.append(WebhookReceiver(reserved))
        await until_async(lambda: box.idle)

    states, said = deliver(config, work)
    late[0].close()
    assert [fields["id"] for fields in late[0].messages(f"/{SECRET}")] == ["a0", "a1", "a2"]
    assert states["down"].last_error == "" and states["down"].sent == 3
    assert any("target down: not reachable" in line for line in said)
    assert said[-1] == "info: target down: takes messages again"
    assert not any(SECRET in line or str(port) in line for line in said)


def test_beyond_the_bound_the_oldest_messages_go_and_are_counted(receiver: WebhookReceiver) -> None:
    receiver.status = 503
    config = settings(ops={"url": receiver.url})

    async def work(box: Delivery) -> None:
        box.put(message(0))
        await until_async(lambda: box.states["ops"].failed_attempts > 0)
        for number in range(1, 8):
            box.put(message(number))
        assert len(box.states["ops"].waiting) == 5
        receiver.status = 200
        receiver.received.clear()
        await until_async(lambda: box.idle)

    states, said = deliver(config, work, queue_max=5)
    assert states["ops"].dropped == 3
    taken = [fields["id"] for fields in receiver.messages()]
    assert taken[-5:] == ["a3", "a4", "a5", "a6", "a7"]
    assert any("HTTP 503" in line for line in said)


@pytest.mark.parametrize("status", [301, 400, 404])
def test_a_refusal_is_final_for_its_message_and_nothing_is_followed_elsewhere(
    receiver: WebhookReceiver, status: int
) -> None:
    receiver.status = status
    config = settings(ops={"url": receiver.url})

    async def work(box: Delivery) -> None:
        box.put(message(0))
        await until_async(lambda: box.idle)

    states, said = deliver(config, work)
    assert (states["ops"].refused, states["ops"].sent) == (1, 0)
    assert [path for path, _ in receiver.received] == ["/"]
    assert said == [f"error: target ops: HTTP {status}; this message is given up, 1 messages wait"]


def test_a_sender_that_has_failed_ends_the_others_all_the_same(receiver: WebhookReceiver) -> None:
    async def fails() -> None:
        raise RuntimeError("a bug")

    senders: list[asyncio.Task[None]] = []

    async def work(box: Delivery) -> None:
        box._senders.insert(0, asyncio.create_task(fails()))
        senders.extend(box._senders)
        await until_async(senders[0].done)

    deliver(settings(page={"url": receiver.url}), work)
    assert len(senders) == 2 and senders[1].cancelled()


def test_messages_that_waited_at_a_restart_are_sent(receiver: WebhookReceiver) -> None:
    async def work(box: Delivery) -> None:
        await until_async(lambda: box.idle)

    states, _ = deliver(
        settings(ops={"url": receiver.url}), work, states={"ops": TargetState(waiting=[message(4)], sent=9)}
    )
    assert [fields["id"] for fields in receiver.messages()] == ["a4"] and states["ops"].sent == 10


def test_a_stop_waits_for_what_is_on_its_way_but_not_for_what_cannot_leave(receiver: WebhookReceiver) -> None:
    async def work(box: Delivery) -> None:
        await box.flush(240)
        box.put(message(1))
        await box.flush(240)
        assert box.idle
        receiver.status = 500
        box.put(message(2))
        await box.flush(0.05)
        assert not box.idle

    deliver(settings(ops={"url": receiver.url}), work)


def test_urls_of_the_key_file_are_used_and_its_faults_are_named_without_a_secret(state_dir: Path) -> None:
    folder = instance_dir("main", create=True) / "keys"
    path = folder / "alerts.json"
    assert load_alert_urls("main") == {}
    path.write_text(f'{{"ops": "https://h/{SECRET}", "heartbeat": "https://h/{SECRET}"}}')
    path.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="found mode 0644, wanted 0600"):
        load_alert_urls("main")
    path.chmod(0o600)
    urls, errors = target_urls(settings(ops={}), load_alert_urls("main"))
    assert urls == {"ops": f"https://h/{SECRET}", "heartbeat": f"https://h/{SECRET}"} and errors == []
    _, errors = target_urls(settings(other={}), {"ops": f"http://far/{SECRET}", "heartbeat": f"tgram://{SECRET}"})
    assert len(errors) == 3 and not any(SECRET in line for line in errors)
    path.write_text(SECRET)
    with pytest.raises(ConfigInvalid) as refused:
        load_alert_urls("main")
    assert SECRET not in str(refused.value)


def made(url: str) -> tuple[list[Target], list[str]]:
    async def main() -> tuple[list[Target], list[str]]:
        async with aiohttp.ClientSession() as session:
            config = settings(ops={"url": url})
            return make_targets(config, target_urls(config, {})[0], session)

    return asyncio.run(main())


def test_without_apprise_its_urls_are_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    targets, errors = made(f"tgram://{SECRET}/1")
    assert targets == [] and len(errors) == 1
    assert "optional package apprise; pip install" in errors[0] and SECRET not in errors[0]


def test_with_apprise_a_message_arrives_through_it(
    receiver: WebhookReceiver, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("apprise", reason="apprise is not installed (an extra: pip install -e '.[notify]')")
    config = settings(ops={"url": f"json://127.0.0.1:{receiver.port}/{SECRET}"})

    async def work(box: Delivery) -> None:
        box.put(message(1))
        await until_async(lambda: box.idle)

    states, _ = deliver(config, work)
    (fields,) = receiver.messages(f"/{SECRET}")
    assert fields["message"] == text_of(message(1), "main") and states["ops"].sent == 1

    async def fails(box: Delivery) -> None:
        box.put(message(1))
        await until_async(lambda: box.states["ops"].failed_attempts > 1)

    receiver.status = 404
    _, said = deliver(config, fails)
    assert said == ["error: target ops: apprise: not taken; tried again, 1 messages wait"]
    targets, errors = made(f"nonsense://{SECRET}")
    assert targets == [] and "nonsense://" in errors[0] and SECRET not in errors[0]
    assert SECRET not in "".join(capfd.readouterr())
