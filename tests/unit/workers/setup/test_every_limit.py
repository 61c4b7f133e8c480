"""Every limit of ``RiskLimits`` is known to live and to ``arb init``, or it says here why not."""

from __future__ import annotations

from pipeline.model.config import RiskLimits
from workers.live_rules import ABOVE_ZERO, MOST
from workers.setup.config_text import COMMENTS

SCOPES = {"per_venue", "per_asset", "per_pair"}
#: Limits without a largest value in live mode.
NO_MOST = {
    "warn_exposure_usd": "it warns; above max_total_exposure_usd it is refused",
    "min_profit_usd": "the larger, the less is traded; it must be above 0",
    **dict.fromkeys(SCOPES, "above the engine's own each is refused"),
}
#: Limits that `arb init` leaves at their defaults: they do not follow from the capital.
NO_COMMENT = {
    "max_slippage_bps": "of the price",
    "max_execution_time_ms": "of the venue's answers",
    "max_unhedged_ms": "of repairs",
    **dict.fromkeys(SCOPES, "written by venue, where the capital asks for it"),
}


def test_live_knows_the_largest_value_of_every_limit() -> None:
    bounded = {path.removeprefix("risk_limits.") for path in MOST if path.startswith("risk_limits.")}
    bounded = {"max_total_loss_usd" if name == "total_loss_usd" else name for name in bounded}
    assert bounded | NO_MOST.keys() == set(RiskLimits.__struct_fields__) and not bounded & NO_MOST.keys()
    assert "risk_limits.min_profit_usd" in ABOVE_ZERO


def test_init_writes_every_limit_with_its_comment() -> None:
    assert COMMENTS.keys() | NO_COMMENT.keys() == set(RiskLimits.__struct_fields__)
    assert not COMMENTS.keys() & NO_COMMENT.keys()
