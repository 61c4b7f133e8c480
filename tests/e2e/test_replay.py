"""``arb replay`` through real sockets and processes on recorded spot and futures of one pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.model.errors import BadInput
from workers.demo.replay_live import ReplayOptions, check_speed, run_replay

pytestmark = pytest.mark.e2e


@pytest.mark.slice
def test_every_recorded_depth_message_arrives_in_order_at_max(captures_dir: Path, own_state: Path) -> None:
    captures = [captures_dir / "spot_btcusdt_20240808.gz", captures_dir / "usdm_btcusdt_20240808.gz"]
    result = run_replay(ReplayOptions(captures=captures, speed="max", fees="zero", quiet=True))
    fields = result.fields
    assert result.healthy, fields["violations"]
    # The futures' price leaves what the first snapshot knew: the standing book takes a deeper one, in recorded time.
    assert (fields["gaps"], fields["resyncs"]) == (0, 0)
    assert fields["messages"] >= 3449 + 6547
    assert fields["books_published"] > 9_900
    assert fields["frames"]["received"] >= fields["sim"]["source"]["venues"]["binance_spot"]["sent"]
    assert all(row["confirmed"] >= row["sent"] > 0 for row in fields["sim"]["source"]["venues"].values())
    assert fields["pnl"]["equal"] is True
    assert [path.name for path in own_state.iterdir() if path.name != "key-locks"] == []


def test_speeds_that_mean_nothing_are_refused() -> None:
    for text in ("fast", "0", "-1", "nan", "inf", "1e9"):
        with pytest.raises(BadInput, match="--speed"):
            check_speed(text)
    assert check_speed("max") == "max"
    assert check_speed("2.5") == "2.5"
