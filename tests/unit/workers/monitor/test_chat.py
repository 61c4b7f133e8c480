"""The chat reads and halts, and never resumes: over real HTTP, as Telegram's bot interface does it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import yaml

from pipeline.model.config_monitoring import url_problems
from shm.errors import SegmentMismatch
from tests.paths import REPO
from tests.worlds.monitor.telegram import Telegram
from tests.worlds.waiting import until
from workers.halt_file import latch_on_disk, read_halt
from workers.monitor.chat import Chat
from workers.monitor.lasting import lasting
from workers.monitor.targets import ChatAddress, chat_address
from workers.state_folder import instance_dir

TOKEN = "123456789:AAHd-qTcv_CH1vGWJxfSeofSAs0K5PALDsaw"
CHAT = -1001234
URL = f"tgram://{TOKEN}/{CHAT}"


@pytest.fixture
def telegram() -> Iterator[Telegram]:
    world = Telegram(TOKEN)
    yield world
    world.close()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (URL, ChatAddress(TOKEN, str(CHAT))),
        (f"tgram://{TOKEN}/99/", ChatAddress(TOKEN, "99")),
        (f"tgram://{TOKEN}/99?format=text", ChatAddress(TOKEN, "99")),
        (f"tgram://{TOKEN}/1/2", None),
        ("tgram://secret/1", None),
        ("https://h/x", None),
    ],
)
def test_the_address_of_a_chat_is_in_its_url(url: str, found: ChatAddress | None) -> None:
    assert chat_address(url) == found
    assert url_problems(url) == [], "the number before the colon is no host, and the token no port"


def chat_of(
    telegram: Telegram,
    session: aiohttp.ClientSession,
    folder: Path,
    said: list[str],
    status: Callable[[], str] = lambda: "ready",
) -> Chat:
    return Chat(
        ChatAddress(TOKEN, str(CHAT)),
        session,
        folder,
        status=status,
        alerts=lambda: "nothing stands",
        say=lambda level, text: said.append(text),
        api=telegram.url,
        conflict_s=0.0,
    )


def talk(telegram: Telegram, folder: Path, answers: int, status: Callable[[], str] = lambda: "ready") -> list[str]:
    """Runs the chat until it has sent ``answers`` answers in all; what it said to the operator."""
    said: list[str] = []

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            chat = chat_of(telegram, session, folder, said, status)
            task = asyncio.create_task(lasting("chat", chat.run, lambda level, text: said.append(text)))
            await asyncio.to_thread(until, lambda: len(telegram.sent) >= answers, "answers")
            task.cancel()

    asyncio.run(main())
    return said


def test_it_answers_questions_of_its_own_chat_alone(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    for text, chat in (("/halt steal", 7), ("hello", CHAT), ("/status@my_bot", CHAT), ("/alerts", CHAT), ("/x", CHAT)):
        telegram.write(text, chat=chat)
    said = talk(telegram, folder, 3)
    texts = [row["text"] for row in telegram.sent]
    assert texts[:2] == [f"{instance}: ready", f"{instance}: nothing stands"], "whose answer it is"
    assert texts[2].startswith(f"{instance}: /status: can it trade")
    assert {row["chat_id"] for row in telegram.sent} == {str(CHAT)}
    assert said == ["chat: a message of another chat, by chat ann, is not answered"]
    assert not read_halt(folder).halted


def test_it_halts_by_the_one_way_and_says_so(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    telegram.write("/halt the market is mad", chat=CHAT)
    talk(telegram, folder, 1)
    state = read_halt(folder)
    assert state.halted and state.reason == "the market is mad (chat ann)" and state.by == "monitor"
    assert telegram.sent[0]["text"].startswith(f"{instance}: HALTED: the market is mad (chat ann)")


@pytest.mark.parametrize(
    ("name", "real_name", "obeyed"),
    [("my_bot", "My_Bot", True), ("other_bot", "My_Bot", False), ("other_bot", "", True)],
)
def test_a_command_to_another_bot_of_the_chat_is_not_ours(
    telegram: Telegram, state_dir: Path, instance: str, name: str, real_name: str, obeyed: bool
) -> None:
    """Each instance has a bot of its own, and several may read one group. Whose it is has to be known to be ignored."""
    folder = instance_dir(instance, create=True)
    telegram.name = real_name
    telegram.write(f"/halt@{name} odd fills", chat=CHAT)
    telegram.write("/alerts", chat=CHAT)
    assert talk(telegram, folder, 1 + obeyed) == []
    assert read_halt(folder).halted is obeyed and telegram.sent[-1]["text"] == f"{instance}: nothing stands"


def test_an_answer_that_telegram_does_not_take_is_said_and_what_was_asked_is_done(
    telegram: Telegram, state_dir: Path, instance: str
) -> None:
    folder = instance_dir(instance, create=True)
    telegram.mute = 403
    for text in ("/halt odd fills", "/status"):
        telegram.write(text, chat=CHAT)
    said = talk(telegram, folder, 2)
    assert read_halt(folder).halted
    assert said[0] == (
        "chat: the answer to /halt by chat ann was not sent: HTTP 403: the bot may not write in this chat: "
        "unblock it, or let it in"
    )


def test_it_obeys_nothing_old_and_nothing_without_a_reason(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    telegram.write("/halt yesterday", chat=CHAT, age_s=3600)
    telegram.write("/halt", chat=CHAT)
    talk(telegram, folder, 2)
    assert not read_halt(folder).halted
    assert [row["text"].split(": ")[1] for row in telegram.sent] == ["not halted", "not halted"]


def test_it_never_resumes(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    latch_on_disk(folder, "mine", by="me")
    telegram.write("/resume please", chat=CHAT)
    talk(telegram, folder, 1)
    assert read_halt(folder).halted and "Nothing resumes from here" in telegram.sent[-1]["text"]


def test_what_it_cannot_read_is_answered_and_ends_nothing(telegram: Telegram, state_dir: Path, instance: str) -> None:
    def of_another_build() -> str:
        raise SegmentMismatch("layout 7, wanted 8")

    folder = instance_dir(instance, create=True)
    for text in ("/status", "/alerts"):
        telegram.write(text, chat=CHAT)
    assert talk(telegram, folder, 2, of_another_build) == []
    assert [row["text"] for row in telegram.sent] == [
        f"{instance}: /status: layout 7, wanted 8",
        f"{instance}: nothing stands",
    ]


def test_a_fault_of_ours_is_said_and_the_chat_begins_again(
    telegram: Telegram, state_dir: Path, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message that met it is not taken again, or it would end the chat for ever."""
    monkeypatch.setattr("workers.monitor.lasting.AGAIN_S", 0.01)

    def broken() -> str:
        raise ZeroDivisionError(URL)

    for text in ("/status", "/alerts"):
        telegram.write(text, chat=CHAT)
    (said,) = talk(telegram, instance_dir(instance, create=True), 1, broken)
    assert said.startswith("chat: ended by ZeroDivisionError at test_chat.py:") and TOKEN not in said
    assert [row["text"] for row in telegram.sent] == [f"{instance}: nothing stands"]


def test_the_second_instance_of_one_bot_says_so_and_takes_it_when_the_first_has_ended(
    telegram: Telegram, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.monitor.chat.AGAIN_S", 0.01)
    said: list[str] = []

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            first, second = (
                asyncio.create_task(chat_of(telegram, session, instance_dir(name, create=True), said).run())
                for name in ("main-paper", "main")
            )
            await asyncio.to_thread(until, lambda: telegram.sent, "what the second one says")
            telegram.write("/status", chat=CHAT)
            await asyncio.to_thread(until, lambda: len(telegram.sent) == 2, "the first one's answer")
            first.cancel()
            telegram.write("/status", chat=CHAT)
            await asyncio.to_thread(until, lambda: telegram.sent[2:], "the second one's answer")
            second.cancel()

    asyncio.run(main())
    notice, *answers = [row["text"] for row in telegram.sent]
    assert notice.startswith(
        "main: /halt in this chat does not reach this instance: instance main-paper reads this bot"
    )
    assert answers[:2] == ["main-paper: ready", "main: ready"]
    assert len(said) == 1 and "instance main-paper reads this bot; wanted one of its own" in said[0]


@pytest.mark.parametrize(
    ("status", "text", "written"),
    [(409, "another process reads this bot", True), (401, "does not know the token", False), (502, "HTTP 502;", False)],
)
def test_what_telegram_answers_is_said_by_its_status(
    telegram: Telegram, state_dir: Path, instance: str, status: int, text: str, written: bool
) -> None:
    telegram.refused, said = status, list[str]()

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            chat = chat_of(telegram, session, instance_dir(instance, create=True), said)
            task = asyncio.create_task(chat.run())
            await asyncio.to_thread(until, lambda: said and (telegram.sent or not written), "what it says")
            task.cancel()

    asyncio.run(main())
    assert text in said[0] and f"HTTP {status}" in said[0] and TOKEN not in said[0]
    assert [text in row["text"] for row in telegram.sent] == [True] * written


def test_a_monitor_with_a_chat_tells_and_answers_there_without_another_package(
    telegram: Telegram, tmp_path: Path, state_dir: Path, instance: str
) -> None:
    section = {"port": 0, "targets": {"phone": {"url": URL}}, "chat": "phone", "telegram_api": telegram.url}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"engine_name": instance, "monitoring": section}))
    command = [sys.executable, "-m", "workers.monitor", "--instance", instance, "--config", str(path)]
    process = subprocess.Popen(command, cwd=REPO)
    try:
        telegram.write("/halt from my phone", chat=CHAT)
        folder = instance_dir(instance)
        until(lambda: process.poll() is not None or read_halt(folder).halted, "the halt")
        asked = 1

        def answered() -> bool:
            """By the disk alone: one that takes longer than a halt waits is said to be no halt, and is asked again."""
            nonlocal asked
            texts = [row["text"] for row in telegram.sent]
            if sum(text.startswith(f"{instance}: NOT HALTED") for text in texts) >= asked:
                asked += 1
                telegram.write("/halt from my phone", chat=CHAT)
            return any(text.startswith(f"{instance}: HALTED") for text in texts)

        until(answered, "its answer")
        until(lambda: any("the instance does not run" in row["text"] for row in telegram.sent), "an alert")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()
    assert all(row["chat_id"] == str(CHAT) for row in telegram.sent)
