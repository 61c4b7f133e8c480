"""Keys that are encrypted at rest: what opens them, who reads them, what is left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.model.config import EngineConfig, ExchangeConfig
from pipeline.model.enums import Mode
from pipeline.model.errors import BadInput, ConfigInvalid
from pipeline.model.structs import Credentials
from workers.account_clients import KeyRole
from workers.credentials import (
    KeysLocked,
    load_credentials,
    missing_keys,
    opened_descriptor,
    store_credentials,
    write_private,
)
from workers.locked_keys import close_keys, encrypt, locked_files, open_keys
from workers.setup.keys import add_key, list_keys
from workers.state_folder import instance_dir

KEY = Credentials(api_key="abcdefghijklmnop", api_secret="the-secret-of-it", uid="7")
EXCHANGES = {"mexc": ExchangeConfig(dialect="mexc", markets={})}


@pytest.fixture
def config(instance: str, state_dir: Path) -> EngineConfig:
    return EngineConfig(engine_name=instance, mode=Mode.SIM, exchanges=EXCHANGES)


def test_a_locked_key_counts_as_there_and_is_read_once_opened(config: EngineConfig) -> None:
    name = config.engine_name
    add_key(name, "mexc", KeyRole.TRADE, KEY, "a passphrase", replace=False)
    (locked,) = locked_files(name)
    assert stat.S_IMODE(locked.stat().st_mode) == 0o600
    raw = locked.read_bytes()
    assert KEY.api_key.encode() not in raw and KEY.api_secret.encode() not in raw
    assert missing_keys(config, name) == []
    with pytest.raises(KeysLocked):
        load_credentials(config, "mexc")
    open_keys(name, lambda: "a passphrase")
    try:
        assert load_credentials(config, "mexc") == KEY
        with pytest.raises(PermissionError):  # sealed
            os.pwrite(opened_descriptor(), b"{}", 0)
        open_keys(name, None)  # an instance that begins anew has no passphrase, and needs none
        assert load_credentials(config, "mexc") == KEY
    finally:
        close_keys()
    assert opened_descriptor() == -1
    with pytest.raises(KeysLocked):
        load_credentials(config, "mexc")


def test_a_wrong_passphrase_none_and_a_damaged_file_are_refused_in_words(config: EngineConfig) -> None:
    name = config.engine_name
    add_key(name, "mexc", KeyRole.TRADE, KEY, "right", replace=False)
    with pytest.raises(BadInput, match="does not open it"):
        open_keys(name, lambda: "wrong")
    with pytest.raises(ConfigInvalid, match="no passphrase was given"):
        open_keys(name, None)
    locked_files(name)[0].write_bytes(b"arb-fernet-1 !!\nx")
    with pytest.raises(ConfigInvalid, match="something else than a locked key"):
        open_keys(name, lambda: "right")
    assert opened_descriptor() == -1


def test_a_passphrase_is_asked_for_only_where_something_is_locked(config: EngineConfig) -> None:
    store_credentials(config.engine_name, "mexc", KEY)

    def ask() -> str:
        raise AssertionError("asked")

    open_keys(config.engine_name, ask)
    assert opened_descriptor() == -1 and load_credentials(config, "mexc") == KEY


def test_the_same_key_and_passphrase_never_give_the_same_file() -> None:
    assert encrypt(b"{}", "p") != encrypt(b"{}", "p")


READ = """
import sys
from pipeline.model.config import EngineConfig, ExchangeConfig
from pipeline.model.enums import Mode
from workers.credentials import load_credentials
exchanges = {"mexc": ExchangeConfig(dialect="mexc", markets={})}
print(load_credentials(EngineConfig(engine_name=sys.argv[1], mode=Mode.SIM, exchanges=exchanges), "mexc").api_secret)
"""


def test_opened_keys_outlive_an_exec_and_a_stranger_has_the_variable_alone(config: EngineConfig) -> None:
    name = config.engine_name
    add_key(name, "mexc", KeyRole.TRADE, KEY, "p", replace=False)
    command = [sys.executable, "-c", READ, name]
    open_keys(name, lambda: "p")
    try:
        heir = subprocess.run(command, capture_output=True, text=True, close_fds=False, check=False)
        stranger = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        close_keys()
    assert heir.stdout == f"{KEY.api_secret}\n", heir.stderr
    assert stranger.returncode != 0 and "locked" in stranger.stderr


def test_the_urls_of_who_is_told_are_no_key(config: EngineConfig) -> None:
    store_credentials(config.engine_name, "mexc", KEY)
    write_private(instance_dir(config.engine_name) / "keys" / "alerts.json", b'{"ops": "https://localhost"}')
    assert [row["exchange"] for row in list_keys(config.engine_name)] == ["mexc"]
    with pytest.raises(BadInput, match="alert targets"):
        add_key(config.engine_name, "alerts", KeyRole.TRADE, KEY, "", replace=True)


START = """
import ctypes, sys
from workers.control_plane import start

def forked():
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
    raise SystemExit

start.start_fork_server = forked
start.run_instance(sys.argv[1], instance="", mode="", live_name="", ask_passphrase=lambda: "p")
"""


def test_a_process_that_has_the_keys_of_an_instance_cannot_be_dumped(config: EngineConfig, tmp_path: Path) -> None:
    add_key(config.engine_name, "mexc", KeyRole.TRADE, KEY, "p", replace=False)
    market = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["BTCUSDT"]}
    exchange = {"dialect": "mexc", "markets": {"spot": market}}
    data = {"engine_name": config.engine_name, "mode": "sim", "exchanges": {"mexc": exchange}}
    (tmp_path / "config.yaml").write_bytes(msgspec.yaml.encode(data))
    command = [sys.executable, "-c", START, str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_key_is_replaced_only_when_asked_and_has_one_file(config: EngineConfig) -> None:
    name = config.engine_name
    store_credentials(name, "mexc", KEY)
    with pytest.raises(BadInput, match="--replace"):
        add_key(name, "mexc", KeyRole.TRADE, KEY, "p", replace=False)
    add_key(name, "mexc", KeyRole.TRADE, KEY, "p", replace=True)
    assert [(row["exchange"], row["encrypted"]) for row in list_keys(name)] == [("mexc", True)]
    add_key(name, "mexc", KeyRole.TRADE, KEY, "", replace=True)
    assert [(row["exchange"], row["encrypted"]) for row in list_keys(name)] == [("mexc", False)]


@pytest.mark.parametrize(
    ("key", "secret"), [("...", "..."), ("<key>", "s"), ("your_api_key", "s"), ("abcdefgh", "xxxx"), ("changeme", "s")]
)
def test_a_sample_text_is_no_key(config: EngineConfig, key: str, secret: str) -> None:
    with pytest.raises(BadInput, match="sample text"):
        add_key(
            config.engine_name, "mexc", KeyRole.TRADE, Credentials(api_key=key, api_secret=secret), "", replace=False
        )
    store_credentials(config.engine_name, "mexc", Credentials(api_key=key, api_secret=secret))
    assert "sample text" in missing_keys(config, config.engine_name)[0]


def test_in_paper_a_locked_key_is_none(config: EngineConfig) -> None:
    add_key(config.engine_name, "mexc", KeyRole.TRADE, KEY, "p", replace=False)
    paper = EngineConfig(engine_name=config.engine_name, mode=Mode.PAPER, exchanges=EXCHANGES)
    assert load_credentials(paper, "mexc") is None
