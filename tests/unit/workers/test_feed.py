"""The feed process: how many connections carry the same streams."""

from __future__ import annotations

import pytest

from workers.feed import sockets_of


@pytest.mark.parametrize(
    ("asked", "cpus", "feeds", "wanted"),
    [(0, 2, 3, 1), (0, 7, 3, 1), (0, 8, 3, 2), (1, 64, 1, 1), (2, 2, 3, 2)],
)
def test_a_second_connection_where_a_cpu_is_free_or_where_it_is_asked_for(
    asked: int, cpus: int, feeds: int, wanted: int
) -> None:
    assert sockets_of(asked, cpus, feeds) == wanted
