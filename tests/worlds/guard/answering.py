"""Control sockets of an instance that answer as a test wants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.control_socket import ControlServer, Handler


@contextmanager
def served(folder: Path, handlers: dict[str, Handler]) -> Iterator[None]:
    """Sockets of an instance that answer so, in a thread of their own."""
    loop = asyncio.new_event_loop()
    servers = [ControlServer(folder / name, handler, print) for name, handler in handlers.items()]
    for server in servers:
        loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for server in servers:
            loop.run_until_complete(server.close())
        loop.close()
