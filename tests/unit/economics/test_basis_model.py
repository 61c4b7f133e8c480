"""The online basis model on processes whose mean, width and half-life are known."""

from __future__ import annotations

import random
from math import exp, log, sqrt

import pytest

from pipeline.economics.basis_model import DECAY, HALF_LIFE_TRADED_MAX_H, MEAN, VARIANCE, BasisModel


def observed(days: float, *, mu: float, sd: float, half_life_h: float, seed: int = 1) -> BasisModel:
    """A model that saw an Ornstein-Uhlenbeck process minute by minute."""
    rng = random.Random(seed)
    keep = exp(-log(2) / (half_life_h * 60))
    step = sd * sqrt(1 - keep * keep)
    model, basis = BasisModel(), mu
    for _ in range(int(days * 1440)):
        basis = mu + (basis - mu) * keep + rng.gauss(0, step)
        model.observe(basis)
    return model


def test_an_unknown_pair_reverts_to_nothing() -> None:
    view = BasisModel().view(37.0)
    assert (view.mu_bps, view.trust, view.sd_bps, view.half_life_h) == (37.0, 0.0, 10.0, 4.0)


def test_a_reverting_pair_is_learned() -> None:
    view = observed(30, mu=25, sd=10, half_life_h=4).view(60.0)
    assert view.trust > 0.8
    assert view.half_life_h == pytest.approx(4, rel=0.5)
    assert view.sd_bps == pytest.approx(10, rel=0.3)
    assert view.mu_bps == pytest.approx(view.trust * 25 + (1 - view.trust) * 60, abs=8)


def test_both_directions_share_the_model() -> None:
    model = observed(10, mu=25, sd=10, half_life_h=4)
    assert model.view(30.0, -1).mu_bps == -model.view(30.0, 1).mu_bps


def test_what_does_not_revert_within_a_day_is_not_trusted() -> None:
    view = observed(20, mu=0, sd=20, half_life_h=24 * 20).view(15.0)
    assert view.half_life_h > HALF_LIFE_TRADED_MAX_H
    assert view.trust == 0
    assert view.mu_bps == 15.0


def test_a_constant_basis_is_no_edge() -> None:
    model = BasisModel()
    for _ in range(1000):
        model.observe(14.0)
    view = model.view(14.0)
    assert view.trust == 0
    assert view.sd_bps == 1.0


def test_a_restored_model_goes_on_like_the_one_it_came_from() -> None:
    model = observed(3, mu=5, sd=10, half_life_h=2)
    other = BasisModel(model.state())
    for basis in (3.0, 9.0, -4.0):
        model.observe(basis)
        other.observe(basis)
    assert other.view(1.0) == model.view(1.0)


def test_a_state_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted 36"):
        BasisModel([1.0, 2.0])


def test_moments_equal_their_definitions() -> None:
    """Against the weighted sums written out: mean and variance over all minutes, covariance over those with a lag."""
    rng = random.Random(3)
    seen = [rng.gauss(12, 6) for _ in range(300)]
    model = BasisModel()
    for basis in seen:
        model.observe(basis)
    weights = [DECAY ** (len(seen) - 1 - k) for k in range(len(seen))]
    mean = sum(w * b for w, b in zip(weights, seen, strict=True)) / sum(weights)
    variance = sum(w * (b - mean) ** 2 for w, b in zip(weights, seen, strict=True)) / sum(weights)
    assert model.state()[MEAN] == pytest.approx(mean, rel=1e-9)
    assert model.state()[VARIANCE] == pytest.approx(variance, rel=0.02)
