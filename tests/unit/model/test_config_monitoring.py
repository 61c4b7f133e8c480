"""Section ``monitoring``: absent is off, every error is named, and no URL is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.model.config_load import config_from_mapping
from pipeline.model.config_monitoring import SECRET_SHOWN, shown_value, url_problems
from pipeline.model.config_reload import reload_changes
from pipeline.model.enums import AlertSeverity
from pipeline.model.errors import ConfigInvalid
from workers.cli.config_view import config_lines, config_values

SECRET = "s3cr3t-token"


def test_absent_is_off_and_an_empty_section_is_on_with_defaults() -> None:
    assert config_from_mapping({}).monitoring is None
    found = config_from_mapping({"monitoring": {}}).monitoring
    assert found is not None and (found.port, found.targets, found.heartbeat_url) == (9464, {}, "")


def test_every_error_is_named_with_its_path() -> None:
    wrong = {
        "port": 70000,
        "heartbeat_every_s": 0,
        "queue_max": -1,
        "latency_factor": 1,
        "heartbeat_url": f"tgram://{SECRET}",
        "targets": {
            "a": {"url": f"http://elsewhere/{SECRET}"},
            "b": {"url": SECRET, "severity": "loud"},
            "c": {"url": "https://h/x", "colour": "red"},
            "heartbeat": {"url": "https://h/x"},
        },
    }
    with pytest.raises(ConfigInvalid) as refused:
        config_from_mapping({"monitoring": wrong})
    text = str(refused.value)
    for wanted in (
        "monitoring.port", "heartbeat_every_s", "queue_max", "latency_factor", "heartbeat_url: found scheme 'tgram'",
        "targets.a.url: found plain text", "targets.b.url: found no scheme", "targets.b.severity", "targets.c.colour",
        "found the name 'heartbeat'",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert SECRET not in text


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://hooks.example/x", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://localhost/x", True),
        ("http://10.0.0.1/x", False),
        ("https:///x", False),
        ("https://h:99999999/x", False),
        ("http://[::1/x", False),
        ("tgram://token/chat", True),
        ("tgram://123456789:AAHd-qTcv_CH1v/-1001234", True),
        ("mailto:somebody", False),
        ("", False),
    ],
)
def test_urls(url: str, fine: bool) -> None:
    assert (url_problems(url) == []) is fine


def test_severities_have_an_order() -> None:
    assert [severity.rank for severity in AlertSeverity] == [0, 1, 2]


def test_no_view_of_the_configuration_shows_a_url(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    section = {"targets": {"ops": {"url": f"https://h/{SECRET}"}}, "heartbeat_url": f"https://h/{SECRET}"}
    path.write_text(yaml.safe_dump({"monitoring": section}))
    fields = config_values(path)
    assert fields["values"]["monitoring.targets.ops.url"]["value"] == SECRET_SHOWN
    assert fields["values"]["monitoring.port"]["value"] == 9464
    assert SECRET not in config_lines(fields)
    other = {"monitoring": {"targets": {"ops": {"url": "https://h/another"}}}}
    with pytest.raises(ConfigInvalid) as refused:
        reload_changes(config_from_mapping(other), config_from_mapping({"monitoring": section}))
    assert "monitoring.targets.ops.url" in str(refused.value)
    assert SECRET not in str(refused.value) and "another" not in str(refused.value)
    assert shown_value("monitoring.heartbeat_url", "") == "" and shown_value("exchanges.x.url", "u") == "u"
