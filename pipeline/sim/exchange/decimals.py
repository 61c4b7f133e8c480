"""Decimal constants of money and quantities."""

from __future__ import annotations

from decimal import Decimal

ZERO = Decimal(0)
ONE = Decimal(1)
PPM = Decimal(1_000_000)
MONEY_STEP = Decimal("1e-12")  # fees, gains and funding are rounded to it
