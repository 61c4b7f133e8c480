"""``arb host`` on a host of files: who gets which CPU, what is set and read back, and what is taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.errors import BadInput
from tests.command_line import assert_contract
from workers.cli.app import run
from workers.setup.host_checks import HostView
from workers.setup.host_plan import TUNED_FILE, apply, cores, cpu_text, plan, revert

FEEDS = ("mexc", "gateio")


def host(root: Path, count: int, *, siblings: bool = True) -> HostView:
    """A host of ``count`` CPUs, two a core where ``siblings`` (0 with its half, as the kernel numbers them)."""
    texts = {
        "sys/devices/system/cpu/online": f"0-{count - 1}",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "proc/sys/vm/swappiness": "60",
        "proc/sys/vm/stat_interval": "10",
        "proc/irq/24/smp_affinity_list": f"0-{count - 1}",
        "proc/cmdline": "quiet skew_tick=1",
        "proc/sys/kernel/random/boot_id": "one",
    }
    for cpu in range(count):
        of_core = f"{cpu % (count // 2)},{cpu % (count // 2) + count // 2}" if siblings else str(cpu)
        texts[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = of_core
        texts[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"] = "powersave"
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")
    return HostView(root=root, pid=1)


def values(view: HostView, wanted: Any) -> dict[str, str]:
    return {row.path: str(view.read(row.path)) for row in wanted.settings}


def test_processes_get_cores_of_their_own_and_siblings_stay_idle(tmp_path: Path) -> None:
    """Twelve CPUs are six cores: the first for the kernel, one free, four that spin and share with nobody."""
    view = host(tmp_path, 12)
    assert cores(view) == [[cpu, cpu + 6] for cpu in range(6)]
    wanted = plan(view, FEEDS)
    assert {name: row["cpus"] for name, row in wanted.processes.items()} == {
        "detector": [1], "executor": [2], "feed.mexc": [3], "feed.gateio": [4],
    }  # fmt: skip
    assert {row["wait"] for row in wanted.processes.values()} == {"spin"}
    assert "isolcpus=managed_irq,domain,1-4,7-10" in wanted.kernel and "irqaffinity=0,5-6,11" in wanted.kernel
    assert "skew_tick=1" not in wanted.kernel, "it is given already"
    interrupt = next(row for row in wanted.settings if "irq" in row.path)
    assert interrupt.want == "0,5-6,11" and "isolated_cores=1-4,7-10" in wanted.tuned
    assert any("7, of the same core, stays idle" in note for note in wanted.notes)


def test_who_finds_no_core_is_named_and_parks(tmp_path: Path) -> None:
    wanted = plan(host(tmp_path, 4, siblings=False), FEEDS)
    assert list(wanted.processes) == ["detector", "executor"]
    assert any("no core of its own is left for feed.mexc, feed.gateio" in note for note in wanted.notes)


def test_few_cores_pin_nobody_and_keep_every_interrupt(tmp_path: Path) -> None:
    wanted = plan(host(tmp_path, 4), ())
    assert wanted.processes == {} and wanted.kernel == [] and wanted.tuned == ""
    assert "2 cores, 4 are wanted" in wanted.notes[0]
    assert not any("irq" in row.path for row in wanted.settings)
    with pytest.raises(BadInput, match="is not shown"):
        plan(HostView(root=tmp_path / "nothing", pid=1), ())


def test_what_is_applied_is_read_back_and_taken_back(tmp_path: Path) -> None:
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    (view.root / "etc/tuned").mkdir(parents=True)
    before = values(view, wanted := plan(view, FEEDS))
    rows = apply(view, wanted, kept)
    # a plain file keeps the word alone, where the kernel shows every choice with that one in brackets
    assert all(row.holds for row in rows) and values(view, wanted) == {row.path: row.want for row in wanted.settings}
    assert (view.root / TUNED_FILE.lstrip("/")).read_text() == wanted.tuned
    (view.root / "proc/sys/vm/swappiness").write_text("30\n")  # somebody else's, in between
    assert all(row.holds for row in apply(view, plan(view, FEEDS), kept))
    assert [*plan(view, FEEDS).settings, rows[-1]] == rows and rows[-1].found == "written"
    back = revert(view, kept)
    assert all(row.holds for row in back) and not kept.exists() and not (view.root / TUNED_FILE.lstrip("/")).exists()
    after = values(view, wanted)
    assert after["/proc/sys/vm/swappiness"] == "60", "what the first one found"
    assert {path for path in after if after[path] != before[path]} == {"/sys/kernel/mm/transparent_hugepage/enabled"}
    assert after["/sys/kernel/mm/transparent_hugepage/enabled"] == "always"
    assert revert(view, kept) == []


def test_what_the_kernel_does_not_take_is_said_and_what_was_is_kept(tmp_path: Path) -> None:
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    swappiness = view.root / "proc/sys/vm/swappiness"
    swappiness.unlink()
    swappiness.symlink_to("/dev/null")  # takes a write and keeps nothing, as some settings do
    rows = {row.path: row for row in apply(view, plan(view, FEEDS), kept)}
    assert rows["/sys/kernel/mm/transparent_hugepage/enabled"].holds
    assert not rows["/proc/sys/vm/swappiness"].holds and kept.exists()
    kept.write_text("{")
    with pytest.raises(BadInput, match="move it away"):
        revert(view, kept)


def test_what_is_gone_has_nothing_to_take_back_and_ends_the_revert(tmp_path: Path) -> None:
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    apply(view, plan(view, FEEDS), kept)
    (view.root / "proc/irq/24/smp_affinity_list").unlink()
    (view.root / "proc/irq/24").rmdir()  # the interrupt was freed
    rows = {row.path: row for row in revert(view, kept)}
    assert rows["/proc/irq/24/smp_affinity_list"].found == "gone" and all(row.holds for row in rows.values())
    assert not kept.exists() and not (view.root / "proc/irq/24").exists()


def test_what_was_kept_in_another_boot_is_written_nowhere(tmp_path: Path) -> None:
    """Interrupts are numbered anew: the affinity of one device would go to another."""
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    apply(view, plan(view, FEEDS), kept)
    host(tmp_path / "root", 8)  # the boot sets everything as it was
    (view.root / "proc/sys/kernel/random/boot_id").write_text("two\n")
    (view.root / "proc/irq/24/smp_affinity_list").write_text("3\n")
    assert revert(view, kept) == [] and not kept.exists()
    assert view.read("/proc/irq/24/smp_affinity_list") == "3"
    apply(view, plan(view, FEEDS), kept)
    assert all(row.holds for row in revert(view, kept)) and view.read("/proc/irq/24/smp_affinity_list") == "3"


@pytest.mark.parametrize("boots", [False, True])
def test_a_profile_that_was_there_comes_back_also_after_a_boot(tmp_path: Path, boots: bool) -> None:
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    profile = view.root / TUNED_FILE.lstrip("/")
    profile.parent.mkdir(parents=True)
    profile.write_text("[main]\nsummary=mine\n")
    assert revert(view, kept) == [] and profile.exists(), "nothing was applied"
    wanted = plan(view, FEEDS)
    for _ in range(2):
        assert all(row.holds for row in apply(view, wanted, kept)) and profile.read_text() == wanted.tuned
    if boots:
        (view.root / "proc/sys/kernel/random/boot_id").write_text("two\n")
    assert all(row.holds for row in revert(view, kept)) and profile.read_text() == "[main]\nsummary=mine\n"


def test_a_profile_in_force_stays_until_tuned_has_another_one(tmp_path: Path) -> None:
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    (view.root / "etc/tuned").mkdir(parents=True)
    apply(view, plan(view, FEEDS), kept)
    active = view.root / "etc/tuned/active_profile"
    active.write_text("arb\n")
    *settings, profile = revert(view, kept)
    assert all(row.holds for row in settings) and not profile.holds and "tuned-adm" in profile.why
    assert kept.exists() and (view.root / TUNED_FILE.lstrip("/")).exists()
    active.write_text("balanced\n")
    assert all(row.holds for row in revert(view, kept)) and not (view.root / "etc/tuned/arb").exists()


def test_a_profile_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """As without root; here something else is in its way, which root cannot pass either."""
    view, kept = host(tmp_path / "root", 8), tmp_path / "host.json"
    (view.root / "etc/tuned").mkdir(parents=True)
    (view.root / "etc/tuned/arb").write_text("a file")
    *settings, profile = apply(view, plan(view, FEEDS), kept)
    assert all(row.holds for row in settings) and (profile.path, profile.found) == (TUNED_FILE, "not written")
    assert all(row.holds for row in revert(view, kept)) and (view.root / "etc/tuned/arb").read_text() == "a file"


def test_lists_of_cpus_are_spelled_as_the_kernel_spells_them() -> None:
    assert [cpu_text(cpus) for cpus in ([], [3], [0, 1, 2], [5, 0, 1, 7, 8])] == ["", "3", "0-2", "0-1,5,7-8"]


def test_the_commands_say_what_they_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = host(tmp_path / "root", 8)
    monkeypatch.setattr("workers.cli.commands_setup.HOST_ROOT", view.root)
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def found(word: str, code: int) -> Any:
        assert run(["host", word, "--json"]) == code, word
        return json.loads(capsys.readouterr().out)

    assert_contract("host plan", found("plan", 1))
    assert_contract("host apply", found("apply", 0))
    assert found("plan", 0)["settings"]
    assert_contract("host revert", found("revert", 0))
    found("plan", 1)
    assert run(["host", "plan"]) == 1
    shown = capsys.readouterr().out
    assert "detector: {cpus: [1], wait: spin}" in shown and "and 7 more: found powersave, wanted performance" in shown
    assert run(["host", "revert"]) == 0 and "nothing was changed" in capsys.readouterr().out
