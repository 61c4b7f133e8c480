"""How ``arb`` ends: exit codes and words for what a command lets through."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.sim.scenarios.specs import scenario_names
from workers.cli import app as commands
from workers.cli import main as cli
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_INTERRUPTED, EXIT_USAGE
from workers.state_folder import instance_dir

Register = Callable[[Callable[[], None]], None]


@pytest.fixture
def command() -> Iterator[Register]:
    """Adds one command, ``arb tried``, for the time of a test."""

    def add(body: Callable[[], None]) -> None:
        commands.app.command("tried", hidden=True)(body)

    before = list(commands.app.registered_commands)
    yield add
    commands.app.registered_commands[:] = before


def test_a_file_that_ends_too_early_is_no_ctrl_c(command: Register, capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda: pickle.loads(b"\x80\x04"))
    assert cli.main(["tried"]) == EXIT_COULD_NOT_START
    said = capsys.readouterr().err
    assert "arb: a file or a connection ended too early" in said and "interrupted" not in said
    assert "pickle.loads" in said, "the traceback says where"


def test_ctrl_c_is_an_interruption(command: Register, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise KeyboardInterrupt

    command(body)
    assert cli.main(["tried"]) == EXIT_INTERRUPTED
    assert "arb: interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["close", "--all"], ["flatten"], ["breakers", "--rearm", "x", "--reason", "y"]])
def test_what_needs_a_running_instance_says_how_to_start_it(
    words: list[str], state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"state": "stopped", "config": "/etc/arb/x.yaml"}))
    assert cli.main([*words, "--instance", instance]) == EXIT_COULD_NOT_START
    said = capsys.readouterr().err
    assert f"{instance} does not run, so nothing was done" in said and "`arb hedges`" in said
    assert f"`arb up --config /etc/arb/x.yaml --instance {instance}` starts it, then repeat this command" in said


def test_anyway_wants_a_breaker(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["breakers", "--anyway"]) == EXIT_USAGE
    assert "found --anyway alone, wanted the breaker to re-arm with it; add --rearm NAME" in capsys.readouterr().err


def test_close_wants_one_hedge_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["close"]) == EXIT_USAGE
    assert "found neither an ID nor --all, wanted one of them; `arb hedges` lists the IDs" in capsys.readouterr().err
    assert cli.main(["close", "a1", "--all"]) == EXIT_USAGE
    assert "found an ID and --all" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "sim"])
def test_the_help_names_every_scenario_that_ships(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert set(re.findall(r"[a-z_]+", capsys.readouterr().out)) >= set(scenario_names())
