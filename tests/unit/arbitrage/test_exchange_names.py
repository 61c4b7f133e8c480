"""``ExchangeName``: an ordinary enum of text, which also has the dialects that a configuration brings."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from arbitrage import ExchangeName
from arbitrage.exchanges import public_class
from arbitrage.instance import Instance
from arbitrage.market_data import running_config
from pipeline.conformance.skeleton import write_skeleton
from pipeline.model import dialects
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from workers.base import RELOAD_FILE
from workers.state_folder import instance_dir


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder with a dialect that nobody has made known yet; its name is of this test alone."""
    folder = tmp_path / "outside"
    folder.mkdir()
    write_skeleton("namely", folder)
    before = list(dialects._roots)
    yield folder
    dialects._roots[:] = before
    dialects._sides.cache_clear()


def test_a_name_is_text_for_everybody_who_encodes_it() -> None:
    assert issubclass(ExchangeName, StrEnum)
    assert msgspec.json.encode([ExchangeName.MEXC]) == b'["mexc"]'
    assert msgspec.json.encode({ExchangeName.MEXC: 1}) == b'{"mexc":1}'
    assert type(msgspec.to_builtins(ExchangeName.MEXC)) is str
    assert msgspec.json.decode(b'"gateio"', type=ExchangeName) is ExchangeName.GATEIO
    assert pickle.loads(pickle.dumps(ExchangeName.MEXC)) is copy.deepcopy(ExchangeName.MEXC) is ExchangeName.MEXC


def test_the_members_are_the_dialects_and_no_others() -> None:
    assert [one.value for one in ExchangeName] == list(dialects.dialect_names())
    assert len(ExchangeName) == len(dialects.dialect_names())
    assert ExchangeName("mexc") is ExchangeName.MEXC is ExchangeName["MEXC"]
    assert (f"{ExchangeName.MEXC}_spot", {"mexc": 1}[ExchangeName.MEXC]) == ("mexc_spot", 1)
    with pytest.raises(ValueError, match=r"found 'nowhere', wanted one of .*mexc"):
        ExchangeName("nowhere")
    with pytest.raises(AttributeError, match=r"ExchangeName has no NOWHERE; it has .*MEXC"):
        _ = ExchangeName.NOWHERE


def test_a_dialect_from_outside_is_a_member_once_it_is_known(outside: Path) -> None:
    with pytest.raises(ValueError, match="found 'namely'"):
        ExchangeName("namely")
    dialects.add_root(outside)
    found = ExchangeName("namely")
    assert (
        found is ExchangeName.NAMELY
        and found in list(ExchangeName)
        and (found.name, found.value)
        == (
            "NAMELY",
            "namely",
        )
    )
    assert msgspec.json.encode(found) == b'"namely"'
    assert public_class("namely").exchange_name is found


def test_a_reloaded_configuration_makes_its_dialects_known(instance: str, state_dir: Path, outside: Path) -> None:
    folder = instance_dir(instance, create=True)
    path = folder / "config.yaml"
    path.write_text(f"engine_name: {instance}\n")
    (folder / "run.json").write_bytes(msgspec.json.encode({"config": str(path)}))
    reloaded = msgspec.structs.replace(load_config(path), dialects=(str(outside),))
    (folder / RELOAD_FILE).write_bytes(msgspec.json.encode(reloaded))
    assert "namely" not in dialects.dialect_names()
    assert running_config(Instance(EngineConfig(engine_name=instance))) == reloaded
    assert "namely" in dialects.dialect_names()
