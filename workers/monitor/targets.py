"""How a message gets to a target: a POST of JSON to a webhook, a Telegram chat, or what apprise knows (mail, ...).

The URL of a target is a secret: no error, log line or status has a word of it. What a failure is
called is decided here.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pipeline.model.config_monitoring import HEARTBEAT, WEBHOOK_SCHEMES, MonitoringConfig, url_problems
from pipeline.model.enums import AlertSeverity
from pipeline.model.errors import ConfigInvalid
from workers.monitor.alert_list import Kind, Message
from workers.tradable import utc

ATTEMPT_S = 3.0  # what one attempt may take; with the look before it a message is there within 5 s
TRY_AGAIN_STATUS = (408, 425, 429)
APPRISE_LOGGERS = ("apprise", "urllib3.connectionpool")
TEXT_MAX = 4000  # characters of one message of Telegram's, which takes 4096
_TELEGRAM = re.compile(r"tgram://(?P<token>\d+:[\w-]+)/(?P<chat>-?\d+)/?(\?.*)?\Z")
APPRISE_INSTALL = "pip install 'apprise>=1.9'"


class DeliveryFailed(Exception):
    """A target has not taken a message. ``final``: another attempt would end the same. The text has no URL in it."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


def title_of(message: Message, instance: str) -> str:
    """A message in a few words."""
    what = {Kind.RAISED: "", Kind.HAPPENED: "", Kind.ENDED: " ended", Kind.REMINDER: " still stands"}[message.kind]
    return f"[{message.severity}{what}] {instance}: {message.source}"


def text_of(message: Message, instance: str) -> str:
    """A message as one line for people."""
    times = f" ({message.count} times)" if message.count > 1 else ""
    solve = f"; solve: {message.solve}" if message.solve else ""
    return f"{title_of(message, instance)}: {message.text}{times}{solve} [{message.alert_id}]"


def payload_of(message: Message, instance: str) -> dict[str, Any]:
    """The JSON object of a webhook; ``text`` is the line for people (the field that Slack and Mattermost show)."""
    return {
        "text": text_of(message, instance),
        "instance": instance,
        "id": message.alert_id,
        "kind": message.kind,
        "severity": message.severity,
        "source": message.source,
        "what": message.text,
        "solve": message.solve,
        "count": message.count,
        "since": utc(message.since_wall_ns),
        "at": utc(message.wall_ns),
    }


class Target(ABC):
    """A target of alerts, by name. ``severity``: the least that is sent."""

    def __init__(self, name: str, severity: AlertSeverity) -> None:
        self.name = name
        self.severity = severity

    @abstractmethod
    async def send(self, message: Message, instance: str) -> None:
        """Deliver one message. Raises DeliveryFailed."""


def _connect_text(error: OSError) -> str:
    """Why a connection was not made; the error's own words name host and port."""
    if isinstance(error, socket.gaierror):
        return "its host name is not found"
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__


async def post_json(session: aiohttp.ClientSession, url: str, fields: Mapping[str, Any]) -> None:
    """POST one JSON object; any 2xx is success, and nothing is followed elsewhere. Raises DeliveryFailed."""
    try:
        async with session.post(
            url,
            data=msgspec.json.encode(fields),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=ATTEMPT_S),
            allow_redirects=False,
        ) as reply:
            status = reply.status
    except TimeoutError:
        raise DeliveryFailed(f"no answer in {ATTEMPT_S:g} s") from None
    except aiohttp.ClientConnectorError as error:
        raise DeliveryFailed(f"not reachable ({_connect_text(error.os_error)})") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:  # their texts name the URL
        raise DeliveryFailed(type(error).__name__) from None
    if 200 <= status < 300:
        return
    again = status >= 500 or status in TRY_AGAIN_STATUS
    raise DeliveryFailed(f"HTTP {status}", final=not again)


class WebhookTarget(Target):
    """A URL that takes a POST of JSON."""

    def __init__(self, name: str, severity: AlertSeverity, url: str, session: aiohttp.ClientSession) -> None:
        super().__init__(name, severity)
        self._url = url
        self._session = session

    async def send(self, message: Message, instance: str) -> None:
        await post_json(self._session, self._url, payload_of(message, instance))


class ChatAddress(NamedTuple):
    """A bot of Telegram and one chat."""

    token: str
    chat: str


def chat_address(url: str) -> ChatAddress | None:
    """The address in a target's URL; None where it is not one bot and one numbered chat of Telegram."""
    found = _TELEGRAM.match(url)
    return None if found is None else ChatAddress(found["token"], found["chat"])


class TelegramTarget(Target):
    """A chat of Telegram, by its bot interface at ``api``."""

    def __init__(
        self, name: str, severity: AlertSeverity, address: ChatAddress, session: aiohttp.ClientSession, api: str
    ) -> None:
        super().__init__(name, severity)
        self._url = f"{api.rstrip('/')}/bot{address.token}/sendMessage"
        self._chat = address.chat
        self._session = session

    async def send(self, message: Message, instance: str) -> None:
        await post_json(
            self._session, self._url, {"chat_id": self._chat, "text": text_of(message, instance)[:TEXT_MAX]}
        )


class AppriseTarget(Target):
    """Whatever service an apprise URL names. apprise is synchronous: each message takes a thread."""

    def __init__(self, name: str, severity: AlertSeverity, url: str, apprise: Any) -> None:
        super().__init__(name, severity)
        for name in APPRISE_LOGGERS:  # what they say names the URL, and would reach stderr
            logging.getLogger(name).disabled = True
        self._apprise = apprise
        self._service = apprise.Apprise()
        if not self._service.add(url):
            scheme = urlsplit(url).scheme
            raise ConfigInvalid([f"monitoring.targets.{name}: apprise does not take this {scheme}:// URL"])

    async def send(self, message: Message, instance: str) -> None:
        levels = self._apprise.NotifyType
        level = {"info": levels.INFO, "warning": levels.WARNING, "critical": levels.FAILURE}[message.severity]
        call = asyncio.to_thread(
            self._service.notify, body=text_of(message, instance), title=title_of(message, instance), notify_type=level
        )
        try:
            async with asyncio.timeout(ATTEMPT_S * 5):  # its thread goes on; services have pauses of their own
                taken = await call
        except TimeoutError:
            raise DeliveryFailed("apprise: no answer") from None
        if not taken:
            raise DeliveryFailed("apprise: not taken")


def target_urls(config: MonitoringConfig, kept: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(URL by target, and that of the heartbeat where there is one; what is wrong). ``kept``: of keys/alerts.json."""
    urls: dict[str, str] = {}
    errors = []
    for name, target in config.targets.items():
        url = target.url or kept.get(name, "")
        if not url:
            errors.append(
                f"monitoring.targets.{name}: found no URL, wanted one as `url`, or for {name!r} in keys/alerts.json"
            )
            continue
        problems = url_problems(url)
        errors.extend(f"monitoring.targets.{name}: {text}" for text in problems)
        if not problems:
            urls[name] = url
    heartbeat = config.heartbeat_url or kept.get(HEARTBEAT, "")
    if heartbeat:
        errors.extend(f"monitoring.{HEARTBEAT}: {text}" for text in url_problems(heartbeat, webhook=True))
        urls[HEARTBEAT] = heartbeat
    known = {*config.targets, HEARTBEAT}
    errors.extend(
        f"keys/alerts.json: {name!r} is no target of monitoring.targets" for name in kept if name not in known
    )
    return urls, errors


def make_targets(
    config: MonitoringConfig, urls: Mapping[str, str], session: aiohttp.ClientSession
) -> tuple[list[Target], list[str]]:
    """(the targets that can be reached, one line for each that cannot)."""
    made: list[Target] = []
    errors: list[str] = []
    for name, target in config.targets.items():
        url = urls.get(name)
        if url is None:
            continue
        if urlsplit(url).scheme in WEBHOOK_SCHEMES:
            made.append(WebhookTarget(name, target.severity, url, session))
            continue
        address = chat_address(url)
        if address is not None:
            made.append(TelegramTarget(name, target.severity, address, session, config.telegram_api))
            continue
        if importlib.util.find_spec("apprise") is None:
            errors.append(
                f"monitoring.targets.{name}: found a {urlsplit(url).scheme}:// URL, which needs the optional package "
                f"apprise; {APPRISE_INSTALL}, or use a webhook (https://)"
            )
            continue
        try:
            made.append(AppriseTarget(name, target.severity, url, importlib.import_module("apprise")))
        except ConfigInvalid as error:
            errors.extend(error.errors)
    return made, errors
