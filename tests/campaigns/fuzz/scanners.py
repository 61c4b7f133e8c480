"""The byte scanners of every dialect under mutated frames, compared with the reference decoder.

``--guided`` runs them as plain Python (``NUMBA_DISABLE_JIT=1``): a mutation that takes a new way through a scanner
joins the corpus, which is written to ``--corpus`` at the end. Without it the corpus is read from there and mutated on
the machine code, which is to be compiled with ``NUMBA_BOUNDSCHECK=1``. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.book.memory import FRAME_BYTE
from pipeline.exchanges.factory import feed_codec
from pipeline.model.dialects import dialect_names
from tests.campaigns.fuzz.branches import Branches
from tests.campaigns.fuzz.mutate import mutated
from tests.campaigns.fuzz.structured import json_mutated, protobuf_mutated
from tests.paths import REPO
from tests.worlds.feed_frames import FRAMES, MEMORY, SNAPSHOTS, assert_scan_equal, assert_snapshot_equal

FILES = [
    REPO / "pipeline" / "exchanges" / name
    for name in (
        "parsing/json_scanner.py",
        "parsing/json_fields.py",
        *(f"{dialect}/feed_codec.py" for dialect in dialect_names()),
    )
]
KEPT = REPO / "tests" / "cases" / "fuzz" / "frames.json"
FRAME_BYTES_MAX = 4096
HANG_MS = 100.0  # of one frame on machine code
FINDINGS_MAX = 20
Key = tuple[str, str, bool]  # dialect, market, REST snapshot
Corpus = dict[Key, list[bytes]]


def seeds() -> Corpus:
    """Golden frames, the shapes of the hostile tests, and what earlier campaigns have found their way with."""
    found: Corpus = read(KEPT) if KEPT.exists() else {}
    for dialect, market, frame in FRAMES:
        found.setdefault((dialect, market, False), []).append(frame)
    for key in (("binance", "spot", True), ("gateio", "spot", True), ("mexc", "spot", True)):
        found.setdefault(key, []).extend(SNAPSHOTS)
    return found


def read(path: Path) -> Corpus:
    """A corpus that :func:`main` has written."""
    corpus: Corpus = {}
    for dialect, market, snapshot, frame in json.loads(path.read_text(encoding="utf-8")):
        corpus.setdefault((dialect, market, snapshot), []).append(bytes.fromhex(frame))
    return corpus


def drawn(key: Key, frames: list[bytes], rng: random.Random) -> bytes:
    """A mutation of one of ``frames``; half of them keep the message around it well formed."""
    made = None
    if rng.random() < 0.5:
        made = (protobuf_mutated if key[0] == "mexc" and not key[2] else json_mutated)(frames, rng)
    return mutated(frames, rng, FRAME_BYTES_MAX) if made is None else made[:FRAME_BYTES_MAX]


def look(key: Key, frame: bytes) -> str:
    """Scans a frame; what was wrong, or ""."""
    dialect, market, snapshot = key
    mem = MEMORY[dialect, market]
    check = assert_snapshot_equal if snapshot else assert_scan_equal
    try:
        check(feed_codec(dialect, market), mem, frame, b"\xff" * 64)
    except Exception as error:  # noqa: BLE001  whatever a scanner raises is a finding
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""


def guided(corpus: Corpus, inputs: int, rng: random.Random) -> dict[str, Any]:
    """Grows ``corpus``; the shares of branches that were taken."""
    branches = Branches(FILES)
    findings: list[dict[str, str]] = []
    keys = [key for key in corpus for _ in range(1 if key[2] else 6 if key[0] == "mexc" else 2)]  # by their branches
    done = 0
    for key, frames in corpus.items():
        for frame in list(frames):
            with branches:
                _note(findings, key, frame, look(key, frame))
            done += 1
    while done < inputs:
        key = rng.choice(keys)
        frame = drawn(key, corpus[key], rng)
        before = len(branches.seen)
        with branches:
            _note(findings, key, frame, look(key, frame))
        if len(branches.seen) > before:
            corpus[key].append(frame)
        done += 1
    return {
        "inputs": done,
        "corpus": sum(map(len, corpus.values())),
        "branches": {_name(path): round(branches.share(path), 4) for path in FILES},
        "never_taken": {_name(path): branches.missing(path) for path in FILES},
        "findings": findings,
    }


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def hammered(corpus: Corpus, inputs: int, rng: random.Random) -> dict[str, Any]:
    """Mutations of ``corpus`` on machine code."""
    findings: list[dict[str, str]] = []
    keys, slowest_ms = list(corpus), 0.0
    for key in keys:
        look(key, corpus[key][0])  # compiled before anything is timed
    for _ in range(inputs):
        key = rng.choice(keys)
        frame = drawn(key, corpus[key], rng)
        began_s = time.thread_time()
        wrong = look(key, frame)
        took_ms = (time.thread_time() - began_s) * 1000
        slowest_ms = max(slowest_ms, took_ms)
        _note(findings, key, frame, wrong or (f"{took_ms:.0f} ms" if took_ms > HANG_MS else ""))
    return {"inputs": inputs, "slowest_ms": round(slowest_ms, 2), "findings": findings}


def _note(findings: list[dict[str, str]], key: Key, frame: bytes, wrong: str) -> None:
    if wrong and len(findings) < FINDINGS_MAX:
        findings.append({"reader": " ".join(map(str, key)), "input": frame.hex(), "wrong": wrong})


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz.scanners")
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--inputs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    arguments = parser.parse_args()
    rng = random.Random(f"{arguments.seed}:{arguments.guided}")
    assert all(len(mem) * 8 > FRAME_BYTE + FRAME_BYTES_MAX + 64 for mem in MEMORY.values())
    if arguments.guided:
        corpus = seeds()
        found = guided(corpus, arguments.inputs, rng)
        rows = [[*key, frame.hex()] for key, frames in corpus.items() for frame in dict.fromkeys(frames)]
        arguments.corpus.write_text("[" + ",\n".join(map(json.dumps, rows)) + "]\n", encoding="utf-8")
    else:
        found = hammered(read(arguments.corpus), arguments.inputs, rng)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
