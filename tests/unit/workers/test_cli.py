"""How ``arb`` ends: exit codes and words for what a command lets through."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import pytest

from workers.cli import main as cli
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_INTERRUPTED

Register = Callable[[Callable[[], None]], None]


@pytest.fixture
def command() -> Iterator[Register]:
    """Adds one command, ``arb tried``, for the time of a test."""

    def add(body: Callable[[], None]) -> None:
        cli.app.command("tried", hidden=True)(body)

    before = list(cli.app.registered_commands)
    yield add
    cli.app.registered_commands[:] = before


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
