"""The fuzz campaign: its seeds are read, its tracer counts ways, what is wrong is seen; and a small part of it."""

from __future__ import annotations

import json
import mmap
import random
import re
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.book.codec import Decoded, FeedCodec
from pipeline.exchanges.factory import feed_codec
from pipeline.model.dialects import dialect_names
from pipeline.model.structs import UnreadableRow
from tests.campaigns.fuzz import branches, mutate, parsers, readers, scanners, structured


def test_every_reader_reads_its_seeds() -> None:
    with ExitStack() as stack:
        found = [*readers.venue_readers(), *readers.file_readers(stack)]
        assert len({reader.name for reader in found}) == len(found) > 100
        for reader in found:
            assert reader.seeds
            for seed in reader.seeds:
                assert readers.judged(reader, seed) == "", reader.name


@pytest.mark.parametrize("dialect", dialect_names())
def test_every_dialect_is_tried_whole(dialect: str) -> None:
    """Its scanner by its branches, and each answer that it reads."""
    assert any(path.parts[-2:] == (dialect, "feed_codec.py") for path in scanners.FILES)
    folder = scanners.FILES[-1].parents[1] / dialect
    wanted = {name for path in folder.glob("*.py") for name in re.findall(r"^def (parse_\w+)", path.read_text(), re.M)}
    tried = {name.split()[0].split(".")[-1] for name, *_ in parsers.parsers([dialect])}
    assert tried == wanted and len(wanted) > 5


def test_a_parser_with_a_parameter_that_nobody_knows_is_refused() -> None:
    def parse_it(venue: str, payload: bytes, tide: int) -> None: ...

    with pytest.raises(TypeError, match="tide"):
        list(parsers._calls("x.y.parse_it", parse_it, []))


def test_a_reader_that_raises_something_else_or_takes_a_nan_is_found() -> None:
    raising = readers.Reader("x", [b"1"], lambda data: 1 // 0)
    assert readers.judged(raising, b"1").startswith("ZeroDivisionError")
    assert readers.judged(readers.Reader("x", [b"1"], lambda data: 1 // 0, (ZeroDivisionError,)), b"1") == ""
    assert readers.judged(readers.Reader("x", [b"1"], lambda data: [{"a": Decimal("NaN")}]), b"1") != ""
    assert readers.judged(readers.Reader("x", [b"1"], lambda data: (float("inf"),)), b"1") != ""
    assert not readers.odd_number([Decimal(1), 2.5, {"a": UnreadableRow(what="fills", name="BTC_USDT")}])


def test_a_reader_that_keeps_what_it_has_read_is_found() -> None:
    kept: list[mmap.mmap] = []

    def keep(_data: object) -> None:
        """In pages of its own: the heap of a process that has run many tests may have as much room already."""
        kept.append(mmap.mmap(-1, 256 * 1024, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        kept[-1].write(b"x" * 256 * 1024)

    keeps = readers.Reader("x", [b"1"], keep)
    found = readers.read_by([keeps], readers.WARM + 400, random.Random("fixed"))
    assert [row["reader"] for row in found["findings"]] == ["all of them"], found["grown_bytes"]


def test_two_thousand_inputs_for_all_readers() -> None:
    found = readers.read_all(2000, random.Random("fixed"))
    assert found["inputs"] == 2000
    assert [row for row in found["findings"] if not row["wrong"].endswith(" ms")] == []


def test_a_thousand_frames_on_machine_code() -> None:
    found = scanners.hammered(scanners.seeds(), 1000, random.Random("fixed"))
    assert [row for row in found["findings"] if not row["wrong"].endswith(" ms")] == []


class OtherReference:
    """A codec whose reference decoder has another opinion of the last update."""

    def __init__(self, codec: FeedCodec) -> None:
        self._codec = codec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def reference(self, frame: bytes) -> Decoded:
        return msgspec.structs.replace(self._codec.reference(frame), last=1)


def test_a_scanner_that_differs_from_its_reference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("binance", "spot", False)
    frame = next(frame for frame in scanners.seeds()[key] if b"depthUpdate" in frame)
    assert scanners.look(key, frame) == ""
    monkeypatch.setattr(scanners, "feed_codec", lambda dialect, market: OtherReference(feed_codec(dialect, market)))
    assert scanners.look(key, frame).startswith("AssertionError")


def test_ways_are_counted_in_and_past_each_test(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(
        "def njit(f):\n    return f\n\n\n@njit\ndef kernel(n):\n    if n > 1:\n        n += 1\n    while n < 3:\n"
        "        n += 1\n    return n\n"
    )
    names: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    seen = branches.Branches([path])
    assert len(seen.all) == 4
    with seen:
        names["kernel"](5)  # type: ignore[operator]
    assert seen.share(path) == 0.5 and seen.missing(path) == ["7!", "9"]
    with seen:
        names["kernel"](0)  # type: ignore[operator]
    assert seen.share(path) == 1.0


def test_structured_mutations_stay_well_formed() -> None:
    rng = random.Random("fixed")
    for _ in range(200):
        made = structured.json_mutated([b'{"a":[["1","2"]],"b":{"c":1}}'], rng, ("FILLED",))
        assert made is not None and isinstance(json.loads(made), dict)
    assert structured.json_mutated([b"no json"], rng) is None
    pushes = readers.mexc_pushes()
    assert all(structured.parsed(push) for push in pushes)
    assert len({structured.protobuf_mutated(pushes, rng) for _ in range(50)}) > 20
    assert structured.parsed(b"\x0a\x05ab") is None


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, second = (
        [mutate.mutated([b"{}", b"[1]"], random.Random(7), 100) for _ in range(3)],
        [mutate.mutated([b"{}", b"[1]"], random.Random(7), 100) for _ in range(3)],
    )
    assert first == second
    assert max(len(mutate.mutated([b"x" * 500], random.Random(n), 100)) for n in range(50)) <= 100
