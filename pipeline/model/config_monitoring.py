"""Section ``monitoring`` of the configuration: where alerts are sent, and where metrics are served. Absent = off.

The URL of a target is a secret: it may stand in ``keys/alerts.json`` instead, and is never shown (``shown_value``).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pipeline.model.enums import AlertSeverity

HEARTBEAT = "heartbeat"  # the name of its URL in keys/alerts.json
WEBHOOK_SCHEMES = ("http", "https")
PORT_MAX = 65535
#: Paths of the configuration that end so are shown as ``SECRET_SHOWN``.
_SECRET_ENDS = ("url",)
SECRET_SHOWN = "(set, not shown)"


class TargetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A target of alerts. ``url``: ``https://`` (or ``http://`` on this host) takes a POST of JSON; every other
    scheme is one of apprise's. Without it ``keys/alerts.json`` must have it, under the target's name."""

    url: str = ""  # a secret: it may stand in `keys/alerts.json` instead
    severity: AlertSeverity = AlertSeverity.WARNING  # the least that is sent


class MonitoringConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the monitor process does. Alerts are kept, and metrics served on loopback, also without a target."""

    port: int = 9464  # of /metrics and /healthz, on 127.0.0.1; 0, or where it is taken: any free one, and it is said
    targets: dict[str, TargetConfig] = {}
    chat: str = ""  # the target whose Telegram chat may ask, and halt; nothing resumes from there; "": nobody may
    telegram_api: str = "https://api.telegram.org"  # where Telegram's bot interface is, or a server of yours for it
    heartbeat_url: str = ""  # POSTed to while the instance's supervisor lives; its silence means: look
    heartbeat_every_s: int = 60  # between two of them
    remind_every_s: int = 3600  # a critical alert that stands and that nobody has acknowledged is sent again
    queue_max: int = 100  # messages kept for a target that does not take them; beyond it the oldest is dropped
    slow_cycle_ms: int = 50  # an operation that takes longer is an alert
    group: str = ""  # whose members may read the status; the group that the instance runs as; "": its user and root
    latency_factor: Decimal = Decimal(3)  # p99 of a minute above this many times the p99 before it is an alert


def check_monitoring(config: MonitoringConfig, errors: list[str]) -> None:
    """Append one line for each name or URL that cannot be; no line quotes a URL."""
    path = "monitoring"
    for name, target in config.targets.items():
        if name == HEARTBEAT or not name.isprintable() or not name:
            errors.append(f"{path}.targets: found the name {name!r}, wanted another (letters and digits)")
        if target.url:
            errors.extend(f"{path}.targets.{name}.url: {text}" for text in url_problems(target.url))
    if config.chat and config.chat not in config.targets:
        known = ", ".join(config.targets) or "none"
        errors.append(f"{path}.chat: found {config.chat!r}, wanted one of the targets: {known}")
    errors.extend(f"{path}.telegram_api: {text}" for text in url_problems(config.telegram_api, webhook=True))
    if config.heartbeat_url:
        errors.extend(f"{path}.heartbeat_url: {text}" for text in url_problems(config.heartbeat_url, webhook=True))


def url_problems(url: str, *, webhook: bool = False) -> list[str]:
    """What is wrong with a target's URL, without a word of the URL itself but its scheme; [] where nothing is.

    ``webhook``: only http and https will do.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        # of others it is no port: a Telegram URL is tgram://NUMBER:TOKEN/CHAT
        port = parts.port if parts.scheme in WEBHOOK_SCHEMES else None
    except ValueError:
        return ["found something that is no URL, wanted https://..."]
    if parts.scheme in WEBHOOK_SCHEMES:
        loopback = host == "localhost" or host == "::1" or host.startswith("127.")
        if not host or port == 0:
            return ["found no host in it, wanted https://HOST/..."]
        if parts.scheme == "http" and not loopback:
            return ["found plain text to another host, wanted https://"]
        return []
    if webhook or not parts.scheme or "://" not in url:
        found = f"scheme {parts.scheme!r}" if "://" in url else "no scheme"
        return [f"found {found}, wanted https://... (http:// on this host)"]
    return []


def shown_value(path: str, value: Any) -> Any:
    """``value`` of the configuration at the dotted ``path`` as it may be shown: a target's URL is a secret."""
    secret = path.startswith("monitoring.") and path.endswith(_SECRET_ENDS)
    return SECRET_SHOWN if secret and value else value
