"""The chat reads and halts, and never resumes: over real HTTP, as Telegram's bot interface does it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import yaml

from pipeline.model.config_monitoring import url_problems
from tests.paths import REPO
from tests.worlds.monitor.telegram import Telegram
from tests.worlds.waiting import until
from workers.halt_file import latch_on_disk, read_halt
from workers.monitor.chat import Chat
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


def talk(telegram: Telegram, folder: Path, answers: int) -> list[str]:
    """Runs the chat until it has sent ``answers`` answers in all; what it said to the operator."""
    said: list[str] = []

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            chat = Chat(
                ChatAddress(TOKEN, str(CHAT)),
                session,
                folder,
                status=lambda: "ready",
                alerts=lambda: "nothing stands",
                say=lambda level, text: said.append(text),
                api=telegram.url,
            )
            task = asyncio.create_task(chat.run())
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
    assert texts[:2] == ["ready", "nothing stands"] and texts[2].startswith("/status: can it trade")
    assert {row["chat_id"] for row in telegram.sent} == {str(CHAT)}
    assert said == ["chat: a message of another chat, by chat ann, is not answered"]
    assert not read_halt(folder).halted


def test_it_halts_by_the_one_way_and_says_so(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    telegram.write("/halt the market is mad", chat=CHAT)
    talk(telegram, folder, 1)
    state = read_halt(folder)
    assert state.halted and state.reason == "the market is mad (chat ann)" and state.by == "monitor"
    assert telegram.sent[0]["text"].startswith("HALTED: the market is mad (chat ann)")


def test_it_obeys_nothing_old_and_nothing_without_a_reason(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    telegram.write("/halt yesterday", chat=CHAT, age_s=3600)
    telegram.write("/halt", chat=CHAT)
    talk(telegram, folder, 2)
    assert not read_halt(folder).halted
    assert [row["text"].partition(":")[0] for row in telegram.sent] == ["not halted", "not halted"]


def test_it_never_resumes(telegram: Telegram, state_dir: Path, instance: str) -> None:
    folder = instance_dir(instance, create=True)
    latch_on_disk(folder, "mine", by="me")
    telegram.write("/resume please", chat=CHAT)
    talk(telegram, folder, 1)
    assert read_halt(folder).halted and "Nothing resumes from here" in telegram.sent[-1]["text"]


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
        until(lambda: any(row["text"].startswith("HALTED") for row in telegram.sent), "its answer")
        until(lambda: any("the instance does not run" in row["text"] for row in telegram.sent), "an alert")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()
    assert all(row["chat_id"] == str(CHAT) for row in telegram.sent)
