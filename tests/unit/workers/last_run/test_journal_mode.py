"""A journal is of one mode: paper's balances and hedges are not those of an account."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from pipeline.execution.journal import Journal, JournalReader
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import BootRecord
from pipeline.execution.settled.checkpoint import read_checkpoint, write_checkpoint
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import ENGINE_NAME_RE
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from workers.control_plane.instances import write_run_file
from workers.control_plane.preflight import check_journal_mode
from workers.executor.earlier_runs import check_mode_of_journal
from workers.last_run.journal_mode import name_of_mode
from workers.state_folder import instance_dir

SEGMENT = 16 * 1024


def ran(instance: str, *modes: str) -> Path:
    """Folder of a journal with a run in each of these modes."""
    folder = instance_dir(instance, create=True) / "journal"
    journal = Journal.open(folder, segment_bytes=SEGMENT)
    for epoch, mode in enumerate(modes, 1):
        journal.boot_epoch = epoch
        journal.append(BootRecord(epoch, instance, mode, 1, 1), epoch, 1)
    journal.close()
    return folder


def checkpointed(folder: Path, *, tells_mode: bool) -> Ledger:
    """The ledger of a checkpoint of the whole journal; a build before this one wrote no mode into it."""
    ledger, reader = Ledger(), JournalReader(folder)
    for entry in reader.poll():
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    if not tells_mode:
        ledger.mode = ""
    assert reader.position is not None
    path = write_checkpoint(folder, ledger, reader.position)
    reader.close()
    return read_checkpoint(path)[0]


@pytest.mark.parametrize("left", ["paper", "sim", "live"])
@pytest.mark.parametrize("wanted", list(Mode))
def test_a_start_in_another_mode_than_the_journal_is_refused(
    instance: str, state_dir: Path, left: str, wanted: Mode
) -> None:
    ran(instance, "sim", left)
    config = EngineConfig(engine_name=instance, mode=wanted)
    if wanted.value == left:
        check_journal_mode(config, instance)
        return
    with pytest.raises(ConfigInvalid) as refused:
        check_journal_mode(config, instance)
    text = str(refused.value)
    assert f"found {wanted}" in text and f"the journal of mode {left}" in text
    assert f"--instance {name_of_mode(instance, wanted)}" in text and f"mv -T {instance_dir(instance)} " in text


def way_out(config: EngineConfig, instance: str) -> str:
    """The command that a refused start names for the instance that is there."""
    with pytest.raises(ConfigInvalid) as refused:
        check_journal_mode(config, instance)
    return refused.value.errors[0].rpartition(": `")[2].removesuffix("`")


def folders(where: Path) -> dict[str, str]:
    """Every instance's key, by the instance's name."""
    return {path.parent.parent.name: path.read_text() for path in where.glob("*/keys/mexc.json")}


@pytest.mark.parametrize(
    ("instance", "left", "wanted"),
    [("main", "paper", Mode.LIVE), ("main-live", "paper", Mode.LIVE), ("main-paper", "paper", Mode.LIVE)],
)
def test_the_way_out_moves_no_other_instances_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: str, left: str, wanted: Mode
) -> None:
    root = tmp_path / "a user's state"
    monkeypatch.setenv("ARB_STATE_DIR", str(root))
    for name in {"main", "main-paper", "main-live", "main-paper-2", instance}:
        ran(name, left if name == instance else "live")
        (instance_dir(name) / "keys" / "mexc.json").write_text(f"the key of {name}")
    before, config = folders(root), EngineConfig(engine_name=instance, mode=wanted)
    with pytest.raises(ConfigInvalid) as refused:
        check_journal_mode(config, instance)
    own = name_of_mode(instance, wanted)
    assert (f"`--instance {own}`" in str(refused.value)) is (own != instance)
    subprocess.run(["sh", "-c", way_out(config, instance)], check=True)
    assert folders(root) == before
    check_journal_mode(config, instance)
    kept = {path.name for path in root.iterdir()} - set(before)
    check_journal_mode(EngineConfig(mode=Mode(left)), kept.pop())
    assert not kept


def test_the_way_out_that_is_named_leads_out(instance: str, state_dir: Path) -> None:
    ran(instance, "paper")
    (instance_dir(instance) / "keys" / "mexc.json").write_text("{}")
    config = EngineConfig(engine_name=instance, mode=Mode.LIVE)
    subprocess.run(["sh", "-c", way_out(config, instance)], check=True)
    check_journal_mode(config, instance)
    assert (instance_dir(instance) / "keys" / "mexc.json").exists()
    kept = name_of_mode(instance, "paper")
    check_journal_mode(msgspec.structs.replace(config, mode=Mode.PAPER), kept)
    with pytest.raises(ConfigInvalid):
        check_journal_mode(config, kept)


def test_an_instance_without_a_record_starts_in_any_mode(instance: str, state_dir: Path) -> None:
    check_journal_mode(EngineConfig(mode=Mode.LIVE), instance)
    write_run_file(instance_dir(instance, create=True), {"mode": "paper"})
    Journal.open(instance_dir(instance) / "journal", segment_bytes=SEGMENT).close()
    check_journal_mode(EngineConfig(mode=Mode.LIVE), instance)


def test_a_checkpoint_keeps_the_mode_and_one_without_it_is_told_by_the_last_run(instance: str, state_dir: Path) -> None:
    folder = ran(instance, "paper")
    assert checkpointed(folder, tells_mode=True).mode == "paper"
    config = EngineConfig(mode=Mode.LIVE)
    with pytest.raises(ConfigInvalid):
        check_journal_mode(config, instance)
    assert checkpointed(folder, tells_mode=False).mode == ""
    write_run_file(instance_dir(instance), {"mode": "paper"})
    with pytest.raises(ConfigInvalid, match="journal of mode paper"):
        check_journal_mode(config, instance)


def test_an_executor_refuses_what_a_start_by_hand_would_give_it(instance: str, state_dir: Path) -> None:
    ledger = Ledger()
    check_mode_of_journal(ledger, EngineConfig(mode=Mode.LIVE), instance)
    ledger.apply(BootRecord(1, instance, "paper", 1, 1), 1, 1)
    check_mode_of_journal(ledger, EngineConfig(mode=Mode.PAPER), instance)
    with pytest.raises(ConfigInvalid, match="journal of mode paper"):
        check_mode_of_journal(ledger, EngineConfig(mode=Mode.LIVE), instance)


def test_a_name_for_another_mode_is_one_that_an_instance_can_have() -> None:
    assert name_of_mode("main", "paper") == "main-paper"
    assert name_of_mode("main-paper", "live") == "main-live"
    assert ENGINE_NAME_RE.fullmatch(name_of_mode("a" * 32, "paper"))
