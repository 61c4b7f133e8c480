"""A fork server on a terminal's lines, for ``growth_executor``: the executor is forked from a warmed parent, as under
``arb up``.

Prints ``warm``; for each line on stdin starts the executor, prints its pid, and ``ended`` when it has ended. Imports
neither numpy nor numba before the fork.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from workers.control_plane.fork_server import MESSAGE_BYTES_MAX, start_fork_server


def main() -> int:
    """``python -m bench.growth_fork INSTANCE CONFIG LOG DIALECT ...``: until stdin ends."""
    instance, config, log, *dialects = sys.argv[1:]
    _, channel = start_fork_server()

    def send(**message: Any) -> None:
        channel.send(msgspec.json.encode(message))

    def until_event(*wanted: str) -> dict[str, Any]:
        while True:
            raw = channel.recv(MESSAGE_BYTES_MAX)
            message: dict[str, Any] = msgspec.json.decode(raw) if raw else {"event": "failed", "text": "it has ended"}
            if message["event"] == "failed":
                raise SystemExit(f"fork server: {message['text']}")
            if message["event"] in wanted:
                return message

    send(op="config", path=config)
    send(op="warm", modules=["executor"], dialects=dialects, last=True)
    until_event("warm")
    print("warm", flush=True)
    for number, _ in enumerate(sys.stdin):
        send(
            op="spawn",
            process="executor",
            exchange="",
            instance=instance,
            restarts=number,
            env={},
            log=str(Path(log)),
        )
        print(until_event("spawned")["pid"], flush=True)
        until_event("exited")
        print("ended", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
