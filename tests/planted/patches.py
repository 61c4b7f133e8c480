"""What a planted bug is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)


@dataclass(frozen=True)
class Wrapped:
    """Makes a replacement from the original."""

    make: Callable[[Any], Any]


Patch = tuple[Any, str, Any]  # object, attribute, replacement


def always(value: Any) -> Callable[..., Any]:
    """A function that answers so to everything."""
    return lambda *args, **kwargs: value
