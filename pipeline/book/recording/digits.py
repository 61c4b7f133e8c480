"""How many digits recorded levels really use: exponents for captures, chosen from the capture's own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pipeline.book.codec import Decoded, FeedCodec, shortest
from pipeline.book.memory import (
    EVENT,
    FP_LIMIT,
    FRAME_BYTE,
    FRAME_CAP_BYTES,
    LEVEL,
    TOPIC_DEPTH,
    TOPIC_SNAPSHOT,
    TOPIC_UNKNOWN,
    new_memory,
)
from pipeline.book.scaling import POW10, significant_digits
from pipeline.model.errors import BadInput, ProtocolViolation
from pipeline.model.fixedpoint import digits_after_point
from shm.jit import njit_bare as njit
from shm.words import Words


@dataclass(slots=True)
class Digits:
    """Of one symbol: most digits after the point, largest values."""

    price: int = 0
    qty: int = 0
    largest_price: float = 0.0
    largest_qty: float = 0.0

    def exponents(self, symbol: str, multiplier: Decimal) -> tuple[int, int]:
        """(price_exp, qty_exp): exact for prices; quantities lose digits only where int64 cannot hold them (one that
        does not fit at all is cut by the book).

        ``multiplier``: base coins per unit of quantity. Raises ``BadInput`` when the largest price and the finest
        one do not fit together.
        """
        limit = float(FP_LIMIT) * (1 - 1e-9)
        if self.largest_price * 10.0**self.price > limit:
            raise BadInput(f"{symbol}: prices up to {self.largest_price:g} with {self.price} digits do not fit int64")
        largest_qty = self.largest_qty * max(1.0, float(multiplier))
        qty_exp = min(18, self.qty + digits_after_point(multiplier))
        while qty_exp > 0 and largest_qty * 10.0**qty_exp > limit:
            qty_exp -= 1
        return self.price, qty_exp


@njit
def most_digits(mem: Words, off: int, count: int, which: int) -> tuple[int, float]:
    """(most significant digits after the point, largest value) of raw levels; ``which``: LEVEL.price or LEVEL.qty."""
    most = 0
    largest = 0.0
    for level in range(off, off + count * LEVEL.WORDS, LEVEL.WORDS):
        mantissa = mem[level + which]
        digits = mem[level + which + LEVEL.price_digits]
        if mantissa:
            if digits > most:
                most = max(most, significant_digits(mantissa, digits))
            value = float(mantissa) / float(POW10[min(digits, 18)])
            largest = max(largest, value)
    return most, largest


class DigitCounter:
    """Reads every frame and snapshot of a capture once, before the books exist."""

    def __init__(self, codec: FeedCodec) -> None:
        self._codec = codec
        self._mem = new_memory(1, 0, blocks=1)
        codec.rule.write(self._mem)
        self._bytes = memoryview(self._mem.data).cast("B")
        self.symbols: dict[str, Digits] = {}

    def _put(self, payload: bytes) -> bool:
        if len(payload) > FRAME_CAP_BYTES:
            return False
        self._bytes[FRAME_BYTE : FRAME_BYTE + len(payload)] = payload
        return True

    def frame(self, payload: bytes) -> None:
        """Counts a stream frame; frames that are not for books, or wrong, count nothing."""
        if not self._put(payload):
            return
        topic = self._codec.scan_frame(self._mem, len(payload))
        if topic == TOPIC_DEPTH:
            at = int(self._mem[EVENT.symbol_byte])
            symbol = bytes(self._bytes[at : at + int(self._mem[EVENT.symbol_len])]).decode("ascii")
            self._scanned(self.symbols.setdefault(symbol, Digits()))
        elif topic == TOPIC_UNKNOWN:
            try:
                decoded = self._codec.reference(payload)
            except ProtocolViolation:
                return
            if decoded.topic == TOPIC_DEPTH:
                self._decoded(decoded, self.symbols.setdefault(decoded.symbol, Digits()))

    def snapshot(self, payload: bytes) -> Digits | None:
        """Digits of a snapshot by itself; None if it cannot be read."""
        found = Digits()
        if self._put(payload) and self._codec.scan_snapshot(self._mem, len(payload)) == TOPIC_SNAPSHOT:
            self._scanned(found)
            return found
        try:
            decoded = self._codec.reference_snapshot(payload)
        except ProtocolViolation:
            return None
        self._decoded(decoded, found)
        return found

    def merge(self, symbol: str, found: Digits) -> None:
        """Adds a snapshot's digits to its symbol."""
        own = self.symbols.setdefault(symbol, Digits())
        own.price, own.qty = max(own.price, found.price), max(own.qty, found.qty)
        own.largest_price = max(own.largest_price, found.largest_price)
        own.largest_qty = max(own.largest_qty, found.largest_qty)

    def _scanned(self, own: Digits) -> None:
        mem = self._mem
        for off, count in ((EVENT.bid_off, EVENT.bid_count), (EVENT.ask_off, EVENT.ask_count)):
            price, largest = most_digits(mem, mem[off], mem[count], LEVEL.price)
            own.price, own.largest_price = max(own.price, int(price)), max(own.largest_price, float(largest))
            qty, largest = most_digits(mem, mem[off], mem[count], LEVEL.qty)
            own.qty, own.largest_qty = max(own.qty, int(qty)), max(own.largest_qty, float(largest))

    @staticmethod
    def _decoded(decoded: Decoded, own: Digits) -> None:
        for level in decoded.bids + decoded.asks:
            (price, price_digits), (qty, qty_digits) = shortest(level[0]), shortest(level[1])
            own.price, own.qty = max(own.price, price_digits), max(own.qty, qty_digits)
            own.largest_price = max(own.largest_price, price / 10**price_digits)
            own.largest_qty = max(own.largest_qty, qty / 10**qty_digits)
