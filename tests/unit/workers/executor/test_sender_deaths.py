"""Deaths inside the one call that writes and sends an entry, and the points that take it apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.execution.crash_points import crash_points
from pipeline.execution.events import Sent
from pipeline.execution.journal import read_journal
from pipeline.execution.records import OrderIntentRecord, OrderSentRecord
from tests.worlds.tls.sender_rig import Rig, in_loop, opened_rig


def sent_by_another(rig: Rig, point: str) -> int:
    """Wait status of a process that sends and is to die at ``point``."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            rig.send(crash=crash_points(point))
        os._exit(1)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(("point", "left"), [("launch_first", 0), ("launch_second", 1)])
@in_loop
async def test_a_process_that_dies_inside_the_one_call_has_written_both_orders_and_sent_what_it_had(
    tmp_path: Path, point: str, left: int
) -> None:
    async with opened_rig(tmp_path) as rig:
        assert sent_by_another(rig, point) == signal.SIGKILL
        written = [entry.record for entry in read_journal(rig.world.journal.directory)]
        orders = [record.client_id for record in written if isinstance(record, OrderIntentRecord)]
        assert len(orders) == 2 and not any(isinstance(record, OrderSentRecord) for record in written)
        if left:
            await rig.until(lambda: rig.http.endswith(b"\r\n\r\n"))
        await asyncio.sleep(0)
        assert rig.http.count(b"POST ") == left and (not left or orders[0].encode() in rig.http) and not rig.frames


@pytest.mark.parametrize(("points", "calls"), [("sent:9", 1), ("launch_first:9", 1), ("before_send:9", 3)])
@in_loop
async def test_only_points_between_its_steps_take_the_one_call_apart(tmp_path: Path, points: str, calls: int) -> None:
    async with opened_rig(tmp_path) as rig:
        made, run = [], rig.world.fast_entry.encoder.run

        def counted(steps: int, *args: Any, **more: Any) -> None:
            made.append(steps)
            run(steps, *args, **more)

        rig.world.fast_entry.encoder.run = counted  # type: ignore[method-assign, assignment]
        sending = rig.send(crash=crash_points(points))
        assert [type(event) for event in sending.followers] == [Sent, Sent] and len(made) == calls
        await rig.until(lambda: rig.http.endswith(b"\r\n\r\n") and rig.frames)
