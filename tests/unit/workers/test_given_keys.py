"""Keys that a Python program hands over to the instance that it starts."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.model.config import EngineConfig
from pipeline.model.structs import Credentials
from tests.worlds.execution_world import make_config
from workers.account_clients import KeyRole, credentials_of
from workers.credentials import (
    OPENED_LINK,
    OPENED_VARIABLE,
    handed_over,
    load_credentials,
    missing_keys,
    opened_keys,
    store_credentials,
    without_guard_key,
    write_private,
)
from workers.locked_keys import close_keys, keep_own_keys, sealed

KEY = Credentials(api_key="k", api_secret="s", uid="7")


def test_a_key_that_was_handed_over_comes_before_the_file(
    instance: str, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_credentials(instance, "mexc", Credentials(api_key="file", api_secret="file"))
    monkeypatch.setenv(OPENED_VARIABLE, str(sealed({"mexc.json": msgspec.json.encode(KEY)})))
    assert load_credentials(EngineConfig(), "mexc", instance=instance) == KEY
    assert load_credentials(EngineConfig(), "gateio", instance=instance) is None
    close_keys()
    found = load_credentials(EngineConfig(), "mexc", instance=instance)
    assert found is not None and found.api_key == "file"


def test_a_key_that_was_handed_over_serves_every_role_and_comes_before_every_folder(
    instance: str, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other keys may be another account's; exchanges without a key of the program's have theirs as ever."""
    other = Credentials(api_key="other", api_secret="other")
    (tmp_path / "brought").mkdir()
    for name in ("mexc", "mexc.guard", "mexc.read", "gateio", "gateio.guard"):
        path = store_credentials(instance, name, other)
        write_private(tmp_path / "brought" / path.name, path.read_bytes())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "brought"))
    monkeypatch.setenv(OPENED_VARIABLE, str(sealed(handed_over({"mexc": KEY}))))
    config = make_config()
    context: Any = SimpleNamespace(config=config, instance=instance)
    assert {credentials_of(context, "mexc", role) for role in KeyRole} == {KEY}
    assert {credentials_of(context, "gateio", role) for role in KeyRole} == {other}
    # where the keys are alike nobody is told that the guard has its own
    assert without_guard_key(config, instance) == ["mexc", "gateio"]
    close_keys()


@pytest.mark.parametrize(
    ("process", "left"),
    [
        ("executor", ["alerts.json", "mexc.json"]),
        ("guard", ["alerts.json", "mexc.json"]),
        ("poller", ["alerts.json", "mexc.json"]),
        ("monitor", ["alerts.json"]),
        ("feed.mexc", []),
        ("detector", []),
        ("recorder", []),
    ],
)
def test_a_process_keeps_the_opened_keys_that_it_works_with(
    monkeypatch: pytest.MonkeyPatch, process: str, left: list[str]
) -> None:
    descriptor = sealed({"mexc.json": msgspec.json.encode(KEY), "alerts.json": b"{}"})
    monkeypatch.setenv(OPENED_VARIABLE, str(descriptor))
    keep_own_keys(process)
    assert sorted(opened_keys()) == left
    still = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.exists()]
    assert still.count(OPENED_LINK) == bool(left)
    close_keys()


def test_what_the_start_will_bring_is_not_missing(instance: str, state_dir: Path) -> None:
    config = make_config()
    assert [line.split(":")[0] for line in missing_keys(config, instance)] == ["exchanges.mexc", "exchanges.gateio"]
    assert [line.split(":")[0] for line in missing_keys(config, instance, {"mexc"})] == ["exchanges.gateio"]


def test_nobody_changes_what_was_handed_over() -> None:
    descriptor = sealed({"mexc.json": b"{}"})
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
    finally:
        os.close(descriptor)
