"""Two instances of one host never trade with the same key."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.structs import Credentials
from workers.control_plane.preflight import CouldNotStart, lock_keys
from workers.credentials import store_credentials

MINE = Credentials(api_key="mine", api_secret="s", uid="")
OTHER = Credentials(api_key="other", api_secret="s", uid="")


def config(name: str, *, mode: str = "sim", port: int = 1) -> EngineConfig:
    at = f"127.0.0.1:{port}"
    market = {"rest": f"http://{at}/api/v3", "ws": f"ws://{at}/ws", "symbols": ["BTCUSDT"]}
    data: dict[str, Any] = {
        "engine_name": name,
        "mode": mode,
        "exchanges": {"mexc": {"dialect": "mexc", "markets": {"spot": market}}},
    }
    return config_from_mapping(data)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))


def close(locks: list[int]) -> None:
    for lock in locks:
        os.close(lock)


def test_the_second_instance_on_a_key_is_told_who_holds_it_until_that_one_ends() -> None:
    for name in ("one", "two"):
        store_credentials(name, "mexc", MINE)
    held = lock_keys(config("one"), "one")
    with pytest.raises(CouldNotStart, match=r"instance one trades with.*`arb stop --instance one`"):
        lock_keys(config("two"), "two")
    close(held)
    close(lock_keys(config("two"), "two"))


def test_another_key_or_another_simulator_is_no_conflict() -> None:
    for name, key in (("one", MINE), ("two", OTHER), ("three", MINE)):
        store_credentials(name, "mexc", key)
    held = lock_keys(config("one"), "one")
    held += lock_keys(config("two"), "two")
    held += lock_keys(config("three", port=2), "three")
    assert len(held) == 6, "a file and a socket each"
    close(held)


def test_a_key_is_one_for_all_state_folders_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a unit of systemd and of a user, or of two users."""
    store_credentials("one", "mexc", MINE)
    held = lock_keys(config("one"), "one")
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path / "of another user"))
    store_credentials("two", "mexc", MINE)
    gc.collect()  # what earlier tests left open in cycles
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(
        CouldNotStart, match=r"mexc\.json.*another user or another ARB_STATE_DIR.*`ss -xap \| grep arb-key-`"
    ):
        lock_keys(config("two"), "two")
    assert len(os.listdir("/proc/self/fd")) == descriptors, "what was taken for it is given back"
    assert "mine" not in Path("/proc/net/unix").read_text()
    close(held)
    close(lock_keys(config("two"), "two"))


def test_the_key_itself_stands_in_no_name_and_no_file(tmp_path: Path) -> None:
    store_credentials("one", "mexc", MINE)
    held = lock_keys(config("one"), "one")
    (lock,) = (tmp_path / "key-locks").iterdir()
    assert "mine" not in lock.name and lock.read_text().strip() == "one"
    assert lock.stat().st_mode & 0o077 == 0
    close(held)


def test_paper_sends_nothing_and_locks_nothing() -> None:
    store_credentials("one", "mexc", MINE)
    assert lock_keys(config("one", mode="paper"), "one") == []
