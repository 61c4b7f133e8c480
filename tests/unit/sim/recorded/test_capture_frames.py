"""Recorded market data: recognised by content, read completely, rebuilt and served over loopback."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pipeline.model.errors import BadInput
from pipeline.sim.recorded.capture_frames import merged, open_recordings
from pipeline.sim.server import SimExchangeServer
from pipeline.sim.wire.recording import RebuiltBook


def small_capture(folder: Path, source: Path, lines: int) -> Path:
    """The first lines of a recorded Binance file, with the instrument rows beside it."""
    path = folder / source.name.replace(".gz", "")
    with gzip.open(source, "rt") as text:
        path.write_text("".join(text.readline() for _ in range(lines)), encoding="utf-8")
    (folder / "instruments.json").write_bytes((source.parent / "instruments.json").read_bytes())
    return path


def test_files_are_recognised_by_content(captures_dir: Path) -> None:
    rows = open_recordings(
        [
            captures_dir / "spot_btcusdt_20240808.gz",
            captures_dir / "usdm_ethusdt_20240808.gz",
            captures_dir / "GATEIO",
            captures_dir / "GATEIO_FUTURES",
        ]
    )
    assert [row.venue for row in rows] == ["binance_spot", "binance_futures", "gateio_spot", "gateio_futures"]
    assert rows[0].symbols == ["BTCUSDT"] and rows[1].symbols == ["ETHUSDT"]
    assert len(rows[2].symbols) == 10 and len(rows[3].symbols) == 10
    assert all(symbol in row.snapshots for row in rows for symbol in row.symbols)
    assert rows[1].instruments[0]["tick"] == "0.01"


def test_gateio_recordings_hold_their_known_number_of_updates(captures_dir: Path) -> None:
    for name, topic, count in (("GATEIO", "spot", 172), ("GATEIO_FUTURES", "futures", 352)):
        (row,) = open_recordings([captures_dir / name])
        frames = [frame for frame in row.frames() if frame.topic == f"{topic}.order_book_update"]
        assert len(frames) == count
        times = [frame.t_ns for frame in merged([row])]
        assert times == sorted(times)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not found"):
        open_recordings([tmp_path / "nothing.gz"])
    other = tmp_path / "other.txt"
    other.write_text("hello\n", encoding="utf-8")
    with pytest.raises(BadInput, match="not a capture"):
        open_recordings([other])


def test_rebuilt_gate_book_agrees_with_the_recorded_tickers(captures_dir: Path) -> None:
    """After each diff the rebuilt best equals the ticker of the same update id, where there is one."""
    (row,) = open_recordings([captures_dir / "GATEIO_FUTURES"])
    symbol = "RDNT_USDT"
    frames = [frame for frame in row.frames() if frame.symbol == symbol]
    tickers = {}
    for frame in frames:
        if frame.topic == "futures.book_ticker":
            result = msgspec.json.decode(frame.data)["result"]
            tickers[result["u"]] = (result["b"], result["a"])
    book = RebuiltBook(row.book_shape(), row.snapshots[symbol])
    compared = 0
    for frame in frames:
        if frame.topic == "futures.order_book_update":
            book.on_depth(frame.data)
            if book.update_id in tickers:
                reply = book.reply(1)
                assert (reply["bids"][0]["p"], reply["asks"][0]["p"]) == tickers[book.update_id]
                compared += 1
    assert book.update_id > 203083287 and compared >= 0


async def _replayed(paths: list[Path], speed: Any, confirm: bool) -> dict[str, Any]:
    """Plays captures to one client; returns what it saw and what the server says."""
    server = SimExchangeServer(None, None, paths, speed=speed)
    info = await server.start()
    seen: list[dict[str, Any]] = []
    most_ahead = 0
    try:
        venue = info["venues"]["binance_spot"]
        url = f"{venue['ws']}/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker"
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{venue['rest']}/api/v3/depth?symbol=BTCUSDT&limit=5") as answer:
                early = await answer.json()
            async with client.ws_connect(url) as stream:
                async for message in stream:
                    seen.append(msgspec.json.decode(message.data))
                    if confirm:
                        sent = server.source.describe()["venues"]["binance_spot"]["sent"] if server.source else 0
                        most_ahead = max(most_ahead, sent - len(seen))
                        body = {"venue": "binance_spot", "frames": len(seen)}
                        async with client.post(f"{info['control']}/replay/confirm", json=body) as answer:
                            state = await answer.json()
                    else:
                        async with client.get(f"{info['control']}/replay") as answer:
                            state = await answer.json()
                    if state["done"] and len(seen) >= state["venues"]["binance_spot"]["sent"]:
                        break
            async with client.get(f"{venue['rest']}/api/v3/depth?symbol=BTCUSDT&limit=5") as answer:
                late = await answer.json()
    finally:
        await server.stop()
    return {"seen": seen, "ahead": most_ahead, "early": early, "late": late}


@pytest.mark.parametrize(("speed", "confirm"), [("max", True), (20.0, False)])
def test_capture_is_served_in_order_with_snapshots_that_align(
    captures_dir: Path, tmp_path: Path, speed: Any, confirm: bool
) -> None:
    path = small_capture(tmp_path, captures_dir / "spot_btcusdt_20240808.gz", 700)
    result = asyncio.run(_replayed([path], speed, confirm))
    (recording,) = open_recordings([path])
    wanted = [frame.data for frame in recording.frames() if frame.topic in ("depth", "bookTicker")]
    assert [row["data"] for row in result["seen"]] == [msgspec.json.decode(data) for data in wanted]
    assert {row["stream"] for row in result["seen"]} == {"btcusdt@depth@100ms", "btcusdt@bookTicker"}
    assert result["ahead"] <= 64
    assert result["early"]["lastUpdateId"] == 50093239218
    depth = [row["data"] for row in result["seen"] if "depth" in row["stream"]]
    assert result["late"]["lastUpdateId"] == depth[-1]["u"]
    local: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
    snapshot = msgspec.json.decode(recording.snapshots["BTCUSDT"])
    for side in local:
        local[side] = dict(snapshot[side])
    for row in depth:
        if row["u"] > snapshot["lastUpdateId"]:
            for side, key in (("bids", "b"), ("asks", "a")):
                for price, qty in row[key]:
                    local[side][price] = qty
    for side, reverse in (("bids", True), ("asks", False)):
        alive = [(price, qty) for price, qty in local[side].items() if float(qty)]
        best = sorted(alive, key=lambda level: float(level[0]), reverse=reverse)[:5]
        assert [tuple(level) for level in result["late"][side]] == best
