"""Dead-man timers: armed from each send, disarmed on planned stops, and what they do at the venue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from types import SimpleNamespace

import msgspec
import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.model.clock import mono_ns
from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.errors import VenueUnavailable
from pipeline.model.fixedpoint import quantize_down
from pipeline.sim.exchange.orders import SimOrderRequest
from tests.worlds.exchange_world import world
from tests.worlds.waiting import until_async
from workers.executor.dead_man import ARM_AGAIN_NS, ARM_S, DeadMan, VenueTimers
from workers.executor.venues import Questions

S_NS = 1_000_000_000


class Timers:
    """Venues that take timers; ``asked``: (venue, seconds) in order."""

    def __init__(self, *venues: str) -> None:
        self.venues = venues
        self.asked: list[tuple[str, int]] = []
        self.sent: dict[str, int] = {}
        self.sent_to: dict[str, dict[str, int]] = {}
        self.symbols: list[list[str]] = []
        self.dead_man = DeadMan(self._arm, self.sent, self.sent_to, lambda venue: 6 if venue == "slow" else 1)

    def _arm(self, venue: str, seconds: int, symbols: Sequence[str]) -> bool:
        if venue in self.venues:
            self.asked.append((venue, seconds))
            self.symbols.append(list(symbols))
        return venue in self.venues


def test_each_send_is_covered_and_further_ones_cost_no_request_each() -> None:
    timers = Timers("a", "b")
    now = 50 * S_NS
    timers.dead_man.tick(now)
    assert timers.asked == [] and timers.dead_man.running(now) == {}
    for step in range(100):  # a send every 100 ms, a look every 100 ms
        timers.sent["a"] = now + step * S_NS // 10
        timers.dead_man.tick(now + step * S_NS // 10 + 1)
    assert timers.asked == [("a", ARM_S)] * 5
    assert ARM_S * S_NS - ARM_AGAIN_NS >= 8 * S_NS
    timers.dead_man.tick(now + 13 * S_NS)
    assert len(timers.asked) == 6, "the sends since the last timer are covered as well"
    timers.dead_man.tick(now + 60 * S_NS)
    assert len(timers.asked) == 6, "quiet"


def test_a_venue_without_a_timer_is_left_alone() -> None:
    timers = Timers("a")
    timers.sent.update(a=5 * S_NS, c=5 * S_NS)
    timers.dead_man.tick(6 * S_NS)
    assert timers.asked == [("a", ARM_S)]
    assert timers.dead_man.running(7 * S_NS) == {"a": []}
    assert timers.dead_man.running(17 * S_NS) == {}


def test_a_timer_that_runs_for_longer_than_asked_is_disarmed_as_long_as_it_runs() -> None:
    timers = Timers("a", "slow")
    timers.sent.update(a=5 * S_NS, slow=5 * S_NS)
    timers.dead_man.tick(6 * S_NS)
    assert timers.dead_man.running(30 * S_NS) == {"slow": []}
    assert timers.dead_man.running(66 * S_NS) == {}


def test_a_timer_that_the_venue_did_not_take_is_asked_for_again_and_no_storm() -> None:
    timers = Timers("a")
    now = 50 * S_NS
    timers.sent["a"] = now
    for step in range(1, 200):  # every ask fails at once
        timers.dead_man.tick(now + step * S_NS // 10)
        timers.dead_man.not_taken("a")
    assert timers.asked == [("a", ARM_S)] * 5, "every two seconds, as long as the send is to be covered"
    assert timers.dead_man.running(now + 9 * S_NS) == {"a": []}, "of some contracts it may run"


def test_timers_are_of_the_symbols_that_were_sent_to() -> None:
    timers = Timers("slow")
    timers.sent_to["slow"] = {"OLD": 50 * S_NS, "BTC": 89 * S_NS, "ETH": 90 * S_NS}
    timers.sent["slow"] = 90 * S_NS
    timers.dead_man.tick(91 * S_NS)
    assert timers.symbols == [["BTC", "ETH"]]
    assert timers.dead_man.running(92 * S_NS) == {"slow": ["OLD", "BTC", "ETH"]}
    assert timers.dead_man.running(140 * S_NS) == {"slow": ["BTC", "ETH"]}, "as long as one of theirs may run"


def test_a_contract_that_has_no_timer_yet_or_one_that_ends_soon_does_not_wait_for_the_venues_turn() -> None:
    timers, now = Timers("slow", "a"), 100 * S_NS
    for venue in ("slow", "a"):
        timers.sent_to[venue] = {"BTC": now}
        timers.sent[venue] = now
    timers.dead_man.tick(now + 1)
    assert timers.symbols == [["BTC"], ["BTC"]]
    for venue in ("slow", "a"):
        timers.sent_to[venue]["ETH"] = timers.sent[venue] = now + S_NS // 2
    timers.dead_man.tick(now + S_NS // 2 + 1)
    assert timers.asked[2:] == [("slow", ARM_S)], "a timer of the whole market covers it"
    assert timers.symbols[2] == ["BTC", "ETH"]
    for step in range(1, 10):  # not taken: no storm
        timers.dead_man.not_taken("slow")
        timers.dead_man.tick(now + S_NS // 2 + step * S_NS // 10)
    assert len(timers.asked) == 3
    later = now + 50 * S_NS  # XRP is asked for, then ETH, whose timer has less than ARM_S left
    timers.sent_to["slow"]["XRP"] = timers.sent["slow"] = later
    timers.dead_man.tick(later + 1)
    timers.sent_to["slow"]["ETH"] = timers.sent["slow"] = later + S_NS
    timers.dead_man.tick(later + S_NS + 1)
    assert timers.symbols[3:] == [["XRP"], ["ETH", "XRP"]]


def test_who_stands_in_disarms_what_the_one_before_armed() -> None:
    async def body() -> None:
        async with world("demo") as box:
            venue = box.server.venues["gateio_spot"]
            names = ("gateio_spot", "mexc_spot")
            questions = Questions(
                lambda: {name: make_venue(box.venue(name), box.credentials(name)) for name in names},
                asyncio.get_running_loop(),
            )
            questions.start(lambda event: None)
            await until_async(lambda: questions.depth_snapshot("gateio_spot", "BTC_USDT") is not None, "the clients")

            def asked() -> int:
                rows = venue.ledger.of_kind("request")
                return sum(row["operation"] == "countdown" and row["venue"] == venue.name for row in rows)

            before = 0
            timers = VenueTimers(questions, SimpleNamespace(sent_mono_ns={}, sent_to={}), lambda: None)  # type: ignore[arg-type]
            await timers.disarm([("gateio_spot", "BTC_USDT", mono_ns() - 60 * S_NS), ("mexc_spot", "X", mono_ns())])
            assert asked() == before, "nothing runs any more"
            await timers.disarm([("gateio_spot", "BTC_USDT", mono_ns())])
            assert asked() > before
            (row,) = (row for row in venue.ledger.of_kind("request") if row["operation"] == "countdown")
            assert row["detail"]["timeout"] == "0", "the venue's ledger tells a disarm from an arm"
            await asyncio.to_thread(questions.close)

    asyncio.run(body())


def test_a_disarm_is_sent_after_the_arms_before_it_have_been_answered() -> None:
    """Each is a request of its own: an arm that is held up would be taken last, and run."""

    async def body() -> None:
        asked: list[int] = []
        answers: list[asyncio.Future[bool]] = []

        def set_countdown(_venue: str, seconds: int, _symbols: Sequence[str]) -> asyncio.Future[bool]:
            asked.append(seconds)
            answers.append(asyncio.get_running_loop().create_future())
            return answers[-1]

        questions = SimpleNamespace(set_countdown=set_countdown, countdown_factor=lambda venue: 1)
        performer = SimpleNamespace(sent_mono_ns={}, sent_to={})
        timers = VenueTimers(questions, performer, lambda: None)  # type: ignore[arg-type]
        now_ns = mono_ns()
        for sent_ns in (now_ns, now_ns + ARM_AGAIN_NS):
            performer.sent_mono_ns["a"] = sent_ns
            timers.tick(sent_ns)
        assert asked == [ARM_S, ARM_S]
        answers[1].set_result(True)
        disarmed = asyncio.create_task(timers.disarm())
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == [ARM_S, ARM_S], "the first one is under way"
        answers[0].set_result(True)
        await until_async(lambda: len(answers) == 3, "the disarm")
        answers[2].set_result(True)
        await disarmed
        assert asked == [ARM_S, ARM_S, 0]

    asyncio.run(body())


def test_the_executor_hears_of_a_timer_that_was_not_taken_and_how_long_one_runs() -> None:
    async def body() -> None:
        async with world("five_venues") as box:
            key = box.credentials("binance_futures")
            keys = {"binance_futures": key, "other": msgspec.structs.replace(key, api_secret="wrong")}
            questions = Questions(
                lambda: {name: make_venue(box.venue("binance_futures"), keys[name]) for name in keys},
                asyncio.get_running_loop(),
            )
            questions.start(lambda event: None)
            await until_async(lambda: questions.countdown_factor("other") > 1, "the clients")
            assert questions.countdown_factor("gateio_spot") == 1
            taken = [questions.set_countdown(name, 10, ["BTCUSDT"]) for name in keys]
            assert [await answer for answer in taken if answer is not None] == [True, False]
            await asyncio.to_thread(questions.close)

    asyncio.run(body())


def test_the_venues_cancel_what_rests_when_no_word_comes_and_nothing_after_a_disarm() -> None:
    async def body() -> None:
        async with world("demo") as box:
            opened = {}
            for name in ("gateio_spot", "gateio_futures"):
                venue = box.server.venues[name]
                account = next(iter(venue.accounts.values()))
                row = venue.instruments["BTC_USDT"]
                price = quantize_down(venue.mark_price(row.symbol) * Decimal("0.9"), row.tick)
                request = SimOrderRequest(
                    symbol=row.symbol, side=OrderSide.BUY, kind=OrderKind.LIMIT, tif=TimeInForce.GTC,
                    qty=Decimal("0.01"), price=price,
                )  # fmt: skip
                venue.place(account, request)
                opened[name] = lambda venue=venue, account=account: len(venue.open_orders(account))
                assert opened[name]() == 1
                client = make_venue(box.venue(name), box.credentials(name))
                assert client.has_countdown
                await client.set_countdown(5, ["BTC_USDT"])
                if name == "gateio_futures":
                    await client.set_countdown(0, ["BTC_USDT"])
                await client.close()
            await until_async(lambda: not opened["gateio_spot"](), "the timer's cancel")
            assert opened["gateio_futures"]() == 1, "disarmed"

    asyncio.run(body())


def test_a_venue_without_a_timer_says_that_nothing_was_sent() -> None:
    async def body() -> None:
        async with world("demo") as box:
            client = make_venue(box.venue("mexc_spot"), box.credentials("mexc_spot"))
            assert not client.has_countdown
            with pytest.raises(VenueUnavailable):
                await client.set_countdown(10, ["BTCUSDT"])
            await client.close()

    asyncio.run(body())
