"""Figures against their thresholds."""

from __future__ import annotations

import pytest

from pipeline.conformance.figures import figure, frames_per_s
from pipeline.model.dialects import dialect_names, facts_of


@pytest.mark.parametrize(
    ("at_most", "best", "p50", "p99", "holds"), [(True, 1, 51, 100, True), (False, 100, 50, 1, False)]
)
def test_the_best_of_the_samples_is_held_to_the_threshold(
    at_most: bool, best: float, p50: float, p99: float, holds: bool
) -> None:
    found = figure("x", "ms", 1.0 if at_most else 101.0, [float(k) for k in range(100, 0, -1)], at_most=at_most)
    assert (found.best, found.p50, found.p99, found.holds) == (best, p50, p99, holds)


@pytest.mark.parametrize("dialect", dialect_names())
def test_every_codec_reads_its_golden_frames_for_the_figure(dialect: str) -> None:
    for market in facts_of(dialect).markets:
        assert min(frames_per_s(dialect, market)) > 0
