"""What the books ask of a dialect's feed codec, and the exact integers of the slow path.

A codec is two jitted kernels and a reference decoder that accept the same frames with the same meaning; the kernel
says ``TOPIC_UNKNOWN`` to shapes that it does not know, and only the reference decoder may call a frame wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pipeline.book.memory import FP_LIMIT
from pipeline.book.sequencer import SequenceRule
from shm.words import Words

Number = tuple[int, int]
"""(mantissa, digits after the point)."""
Level = tuple[Number, Number]
"""(price, quantity)."""


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """A frame as the reference decoder reads it; numbers exact, quantities as sent (futures: contracts)."""

    topic: int  # memory.TOPIC_*
    symbol: str = ""
    first: int = 0
    last: int = 0
    previous: int = 0
    full: bool = False
    time: int = 0  # as sent: ms or us
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    tick: tuple[Number | None, Number | None, Number | None, Number | None] = (None, None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedCodec:
    """One dialect's stream of one market.

    ``on_frame(mem, words, length, recv_ns, conn)`` is the one fused call per frame (a result of
    ``frame_kernels``);
    ``scan_frame(mem, length)`` only scans (a ``TOPIC_*``); both find the bytes in the private memory. ``reference``
    and ``reference_snapshot`` raise ``ProtocolViolation``.
    """

    rule: SequenceRule
    on_frame: Callable[[Words, Words, int, int, int], int]
    scan_frame: Callable[[Words, int], int]
    scan_snapshot: Callable[[Words, int], int]
    reference: Callable[[bytes], Decoded]
    reference_snapshot: Callable[[bytes], Decoded]


CodecOf = Callable[[str, str], FeedCodec]
"""(dialect, market) -> its codec; raises ``ArbitrageEngineError`` where there is none."""


class PricePrecision(Exception):
    """A price has more digits than the exponent holds; ``digits`` are needed."""

    def __init__(self, digits: int) -> None:
        super().__init__(f"price needs {digits} digits after the point")
        self.digits = digits


COINS_MAX = 10**18  # of whole coins in one level: walls of 10**16 are real


class OutOfRange(Exception):
    """A number that fixed point cannot hold, or a price of zero."""


def shortest(number: Number) -> Number:
    """The same number without trailing zeros after the point: equal numbers are equal pairs."""
    mantissa, digits = number
    while digits > 0 and mantissa % 10 == 0:
        mantissa, digits = mantissa // 10, digits - 1
    return mantissa, digits


def exact_price(number: Number, exp: int) -> int:
    """Price in fixed point: the plain twin of ``scaling.scale_price``."""
    mantissa, digits = number
    price: int
    if mantissa <= 0:
        raise OutOfRange("price is zero")
    if digits <= exp:
        price = mantissa * 10 ** (exp - digits)
    else:
        price, rest = divmod(mantissa, 10 ** (digits - exp))
        if rest:
            raise PricePrecision(shortest(number)[1])
    if price > FP_LIMIT:
        raise OutOfRange(f"price does not fit: {mantissa}e-{digits} at {exp} digits")
    return price


def exact_qty(number: Number, exp: int, mult: int, mult_exp: int) -> tuple[int, bool]:
    """(base quantity in fixed point cut down, whether anything was cut): the twin of ``scaling.scale_qty``, which
    leaves to this one what does not fit: a level larger than the book holds is cut to the limit, not fatal.

    Raises ``OutOfRange`` for what is no quantity of any coin."""
    mantissa, digits = number
    shift = exp - digits - mult_exp
    value = mantissa * mult
    if shift >= 0:
        qty, rest = value * 10**shift, 0
    else:
        qty, rest = divmod(value, 10**-shift)
    if qty > FP_LIMIT and value > COINS_MAX * 10 ** (digits + mult_exp):
        raise OutOfRange(f"no coin has so many: {mantissa}e-{digits}")
    return min(qty, FP_LIMIT), rest != 0 or qty > FP_LIMIT
