"""A venue counts an account's requests, whichever process sends them: the guard goes on with what the executor left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pipeline.exchanges.factory import make_trading, make_venue
from pipeline.exchanges.transport import shared_budgets
from pipeline.exchanges.transport.shared_budgets import Joined, join
from pipeline.exchanges.transport.spend import OF_ALL
from pipeline.model.config import VenueConfig
from pipeline.model.errors import RateLimited
from pipeline.model.structs import Credentials
from shm.segment import cleanup_instance, list_segments
from tests.worlds.execution_world import make_config
from workers.view.budgets import budget_lines, budgets

KEY = Credentials(api_key="k", api_secret="s")
GUARD_KEY = Credentials(api_key="k2", api_secret="s")
OTHER_KEY = Credentials(api_key="other", api_secret="s")
VENUES = {venue.name: venue for venue in make_config().venues}


@pytest.fixture
def processes(instance: str) -> Iterator[Any]:
    born: list[Joined] = []

    def begin(process: str) -> Joined:
        if born:
            born[-1].leave()
        born.append(join(instance, process))
        return born[-1]

    yield begin
    born[-1].leave()
    cleanup_instance(OF_ALL, lambda name: f".{instance}." in name)
    assert shared_budgets.joined() is None


def session(venue: VenueConfig, key: Credentials) -> Any:
    return make_trading(venue, key, lambda event: None)


@pytest.mark.parametrize("name", VENUES)
def test_a_takeover_begins_with_what_the_executor_has_left_of_its_orders(name: str, processes: Any) -> None:
    processes("executor")
    dead, count = session(VENUES[name], KEY), 0
    while dead._throttle.try_acquire("order"):
        count += 1
    assert count > 1
    assert not session(VENUES[name], KEY).can_place(1), "every session of the process counts the same orders"
    processes("guard").same_account(GUARD_KEY.api_key, KEY.api_key)
    assert not session(VENUES[name], KEY).can_place(1)
    assert not session(VENUES[name], GUARD_KEY).can_place(1), "the guard's own key is one of the same account"
    assert session(VENUES[name], OTHER_KEY).can_place(count), "another account has its own"
    processes("executor")
    assert not session(VENUES[name], KEY).can_place(1), "nor has the next executor more"


@pytest.mark.parametrize("name", VENUES)
def test_every_process_is_silent_where_the_venue_has_asked_one_to_be(name: str, processes: Any) -> None:
    processes("executor")
    throttle = make_venue(VENUES[name], KEY).transport.throttle  # type: ignore[attr-defined]
    assert not any(throttle.delay_s(bucket) for bucket in throttle.buckets)
    throttle.silence(60.0)
    processes("feed")
    throttle = make_venue(VENUES[name]).transport.throttle  # type: ignore[attr-defined]
    assert min(throttle.delay_s(bucket) for bucket in throttle.buckets) > 50


@pytest.mark.parametrize("name", VENUES)
def test_questions_of_all_processes_are_counted_together(name: str, processes: Any) -> None:
    processes("feed")
    throttle = make_venue(VENUES[name]).transport.throttle  # type: ignore[attr-defined]
    while throttle.try_acquire("public", 5):
        pass
    processes("poller")
    assert make_venue(VENUES[name], KEY).transport.throttle.delay_s("public", 5) > 0  # type: ignore[attr-defined]


def test_status_shows_what_is_left_of_each_venue(instance: str, processes: Any) -> None:
    processes("executor")
    trading = session(VENUES["gateio_spot"], KEY)
    assert trading._throttle.try_acquire("order") and trading._throttle.try_acquire("query", 5)
    processes("poller")
    throttle = make_venue(VENUES["gateio_spot"], KEY).transport.throttle  # type: ignore[attr-defined]
    assert throttle.try_acquire("query", 7)
    throttle.silence(60.0, "cancel")
    seen = budgets(instance)
    assert list(seen) == ["gateio_spot"]
    query, order = seen["gateio_spot"]["query"], seen["gateio_spot"]["order"]
    assert (query["used"], query["left"], query["limit"]) == (12, 188, 200)
    assert (order["used"], order["left"], order["window_s"]) == (1, 9, 1.1)
    assert seen["gateio_spot"]["cancel"]["silent_s"] > 50
    (line,) = budget_lines(seen)
    assert "gateio_spot: cancel SILENT for" in line and "query 188 of 200 in 11 s" in line
    assert budgets("nobody-here") == {} and not budget_lines({})


BYBIT = [
    VenueConfig(
        name=f"bybit_{market}",
        exchange="bybit",
        market=market,
        dialect="bybit",
        venue_id=number,
        feed_id=0,
        rest="http://127.0.0.1:1",
        ws="",
        ws_private="",
        ws_api="",
        symbols=(),
    )
    for number, market in enumerate(("spot", "futures"))
]


def test_both_markets_of_one_address_share_its_budget_and_its_ban(instance: str, processes: Any) -> None:
    processes("feed")
    spot = make_venue(BYBIT[0]).transport.throttle  # type: ignore[attr-defined]
    while spot.try_acquire("public", 10):
        pass
    processes("poller")
    futures = make_venue(BYBIT[1], KEY)
    throttle = futures.transport.throttle  # type: ignore[attr-defined]
    assert throttle.delay_s("public", 10) > 0 and throttle.delay_s("private") > 0, "one address, whichever market asks"
    assert throttle.delay_s("query") == throttle.delay_s("order") == 0.0, "a part is left to what repairs"
    futures.gateway.note(RateLimited("403", retry_after_s=600.0, of_address=True), "public")  # type: ignore[attr-defined]
    processes("executor")
    silent = make_venue(BYBIT[0], OTHER_KEY).transport.throttle  # type: ignore[attr-defined]
    assert min(silent.delay_s(bucket) for bucket in silent.buckets) > 500
    assert budgets(instance)["bybit"]["all"]["silent_s"] > 500


def test_a_ban_of_one_host_is_shown_whatever_the_exchange_s_other_hosts_say(instance: str, processes: Any) -> None:
    processes("executor")
    hosts = [msgspec.structs.replace(row, rest=f"https://{row.market}.example") for row in BYBIT]
    for banned in (0, 1):
        clients = [make_venue(row) for row in hosts]
        clients[banned].gateway.note(RateLimited("418", retry_after_s=300.0, of_address=True), "public")  # type: ignore[attr-defined]
        assert budgets(instance)["bybit"]["all"]["silent_s"] > 200


def test_clients_made_in_several_threads_have_one_segment_and_one_window(instance: str, processes: Any) -> None:
    processes("executor")
    made: list[Any] = []
    threads = [threading.Thread(target=lambda: made.append(make_venue(VENUES["gateio_spot"], KEY))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([name for name in list_segments(OF_ALL) if f".{instance}." in name]) == 1
    assert len({id(client.transport.throttle._windows["query"]) for client in made}) == 1


def test_a_process_that_has_not_joined_counts_alone() -> None:
    first, second = (make_venue(VENUES["gateio_spot"]).transport.throttle for _ in range(2))  # type: ignore[attr-defined]
    while first.try_acquire("public"):
        pass
    assert second.try_acquire("public")
