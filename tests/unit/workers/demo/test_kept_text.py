"""What a demo says of the state that it keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from workers.demo.demo import DemoOptions, _keep


def test_where_the_state_is_and_what_shows_it_are_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = SimpleNamespace(clean=lambda *, keep_state: None, state_dir=tmp_path)
    _keep(SimpleNamespace(engine=engine, instance="d-1"), DemoOptions(keep=True), None)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert f"state kept in {tmp_path} (rm -r when done); to look at it: arb why ID --instance d-1" in said
