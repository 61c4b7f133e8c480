"""What the thresholds of a detector are made of."""

from __future__ import annotations

import math
from fractions import Fraction

import msgspec

from pipeline.model.config import DetectionConfig, EngineConfig, HedgeConfig
from pipeline.model.enums import OpportunityType
from pipeline.model.units import BPS


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the thresholds are made of. Replays use ``entry_only``: no basis, funding, carry or exit fees."""

    types: tuple[OpportunityType, ...]
    min_edge: Fraction
    execute_edge: Fraction
    hedge: HedgeConfig
    max_notional_usd: float
    min_profit_usd: float = -math.inf  # expected net profit from which on a trade is offered; -inf = whatever it is
    entry_only: bool = False
    entries: bool = True  # False: no edge is enough; exits of open hedges have thresholds of their own

    @classmethod
    def from_config(cls, config: EngineConfig) -> Terms:
        """Those of an instance: edges as fractions of the notional, and no execution edge below the detection's."""
        detection: DetectionConfig = config.detection
        minimum = Fraction(detection.min_edge_bps) / BPS
        return cls(
            types=config.enabled_opportunity_types,
            entries=detection.enabled,
            min_edge=minimum,
            execute_edge=max(minimum, Fraction(config.execute_edge_bps) / BPS),
            hedge=detection.hedge,
            max_notional_usd=float(detection.max_notional_usd),
            min_profit_usd=float(config.risk_limits.min_profit_usd),
        )
