"""What a dialect costs on its simulated venue, beside the thresholds that every exchange is held to.

The check holds the best of many samples to them: what the code needs, whatever else the machine does meanwhile.
``scripts/generate_performance_report.py`` shows the middle and the tail as well. That an exchange is up for 99.5 % of a
day is no figure of a run: `arb report` of an instance shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from pipeline.conformance.frames import books_of, golden_of
from pipeline.conformance.public_side import FeedBench, feed_bench
from pipeline.conformance.venue import Checked, need
from pipeline.model.clock import mono_ns
from pipeline.model.errors import VenueError
from shm.bookring import read_book
from shm.layout import BOOK

QUESTIONS = 20
UPDATES = 50
BATCHES, BATCH = 20, 20
ASK_S = 0.05  # between questions: within every venue's limits


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure. ``limit``: what ``best`` is held to; ``at_most``: from above, else from below."""

    name: str
    unit: str
    limit: float
    best: float
    p50: float
    p99: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether the threshold is kept."""
        return self.best <= self.limit if self.at_most else self.best >= self.limit


def figure(name: str, unit: str, limit: float, samples: Sequence[float], at_most: bool = True) -> Figure:
    """Of samples: the best, the middle, and what only one in a hundred is worse than."""
    ordered = sorted(samples, reverse=not at_most)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return Figure(name=name, unit=unit, limit=limit, best=ordered[0], p50=p50, p99=p99, at_most=at_most)


async def measure(it: Checked) -> list[Figure]:
    """Every figure of one market."""
    async with feed_bench(it) as bench:
        await bench.all_equal("at the start")
        return [
            figure("question by REST", "ms", 50.0, await _rest_ms(it)),
            figure("venue's time to published book", "ms", 100.0, await _delays_ms(it, bench)),
            figure("frames read", "1/s", 1000.0, frames_per_s(it.dialect, it.market), at_most=False),
            figure("books' memory", "MB", 100.0, [(bench.words.nbytes + bench.feed.books.mem.nbytes) / 1e6]),
        ]


async def thresholds(it: Checked) -> None:
    """No figure misses its threshold."""
    for row in await measure(it):
        wanted = f"{'at most' if row.at_most else 'at least'} {row.limit:g} {row.unit}"
        need(row.holds, f"{row.name}: found {row.best:.3g} {row.unit} at best, wanted {wanted}")


async def _rest_ms(it: Checked) -> list[float]:
    samples = []
    for _ in range(QUESTIONS):
        began_ns = mono_ns()
        with contextlib.suppress(VenueError):  # a machine that stands still answers nothing in time
            await it.client.server_time_ms()
            samples.append((mono_ns() - began_ns) / 1e6)
        await asyncio.sleep(ASK_S)
    need(samples, f"question by REST: found no answer to {QUESTIONS}")
    return samples


async def _delays_ms(it: Checked, bench: FeedBench) -> list[float]:
    """Of books as they are published: how long ago, by the venue's clock, the venue dated them."""
    found: dict[int, float] = {}

    def look() -> bool:
        for row in bench.rows:
            if read_book(bench.words, 0, row.book_index, bench.record) > 0 and bench.record[BOOK.venue_wall_ns]:
                published_ms = it.sim.now_ms() - (mono_ns() - int(bench.record[BOOK.publish_mono_ns])) / 1e6
                delay_ms = published_ms - int(bench.record[BOOK.venue_wall_ns]) / 1e6
                found.setdefault(int(bench.record[BOOK.publish_mono_ns]), max(0.0, delay_ms))
        return len(found) >= UPDATES

    await bench.until(look, f"{UPDATES} dated updates")
    return list(found.values())


def frames_per_s(dialect: str, market: str) -> list[float]:
    """Golden frames through the whole way from bytes to a book, in batches."""
    golden = golden_of(dialect)[market]
    books = books_of(dialect, market, golden.sequence)
    frames = [step.payload for step in golden.sequence.steps if not step.snapshot]
    frames += [row.payload for row in golden.frames]
    samples = []
    for _ in range(BATCHES):
        began_ns = mono_ns()
        for k in range(BATCH):
            books.on_frame(frames[k % len(frames)], began_ns, 0)
        samples.append(BATCH * 1e9 / max(1, mono_ns() - began_ns))
    return samples
