"""A chat that may read and halt: what its people write is answered, ``/halt REASON`` latches the halt. Nothing resumes.

Telegram alone: its bot interface needs no address of ours that the outside could reach (we ask, and wait for what was
written). The URL of the target is apprise's, ``tgram://NUMBER:TOKEN/CHAT``; what other chats write is not answered. The
URL is a secret: no error has a word of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from pipeline.model.errors import ArbitrageEngineError
from workers.halting import halt_instance
from workers.monitor.targets import TEXT_MAX, ChatAddress

WAIT_S = 20  # how long Telegram holds a question open until something is written
AGAIN_S = 5.0  # after a failed attempt
OLD_S = 60  # a command that was written so long ago is not obeyed: the engine was away
HELP = (
    "/status: can it trade, and if not why\n/alerts: what stands\n/halt REASON: no new risk, at once\n"
    "Nothing resumes from here: `arb resume --reason R` on the host."
)


class Asked(msgspec.Struct, frozen=True):
    """One message that was written to the bot."""

    update: int
    chat: str
    by: str
    at_s: int
    text: str


class Chat:
    """Asks for messages and answers them until it is cancelled.

    ``status`` and ``alerts``: the texts of now. ``say``: one line for operators. ``api``: where Telegram's bot
    interface is.
    """

    def __init__(
        self,
        address: ChatAddress,
        session: aiohttp.ClientSession,
        state_dir: Path,
        *,
        status: Callable[[], str],
        alerts: Callable[[], str],
        say: Callable[[str, str], object],
        api: str,
    ) -> None:
        self._address, self._session, self._state_dir = address, session, state_dir
        self._status, self._alerts, self._say = status, alerts, say
        self._base = f"{api.rstrip('/')}/bot{address.token}"
        self._next = 0
        self._problem = ""

    async def run(self) -> None:
        """Asks on and on; a failure is said once, and tried again."""
        while True:
            try:
                for asked in await self._written():
                    self._next = asked.update + 1
                    await self._take(asked)
                self._problem = ""
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError, KeyError, TypeError) as error:
                problem = f"chat: not reachable ({type(error).__name__})"  # its own text names the URL
                if problem != self._problem:
                    self._say("warning", f"{problem}; tried again every {AGAIN_S:g} s")
                self._problem = problem
                await asyncio.sleep(AGAIN_S)

    async def _written(self) -> list[Asked]:
        reply = await self._call("getUpdates", offset=self._next, timeout=WAIT_S, allowed_updates=["message"])
        found = []
        for row in reply["result"]:
            message = row.get("message") or {}
            who = message.get("from") or {}
            found.append(
                Asked(
                    update=row["update_id"],
                    chat=str((message.get("chat") or {}).get("id", "")),
                    by=f"chat {who.get('username') or who.get('id') or '?'}",
                    at_s=message.get("date") or 0,
                    text=str(message.get("text") or ""),
                )
            )
        return found

    async def _take(self, asked: Asked) -> None:
        """Answers one message of the chat. Of another chat nothing is answered, and nothing is obeyed."""
        if asked.chat != self._address.chat:
            self._say("warning", f"chat: a message of another chat, by {asked.by}, is not answered")
            return
        command, _, rest = asked.text.strip().partition(" ")
        command = command.partition("@")[0].lower()  # in a group: /halt@the_bot
        if command == "/status":
            answer = self._status()
        elif command == "/alerts":
            answer = self._alerts()
        elif command == "/halt":
            answer = await self._halt(asked, rest.strip())
        elif command == "/resume":
            answer = "Nothing resumes from here: `arb resume --reason R` on the host."
        elif command.startswith("/"):
            answer = HELP
        else:
            return  # people talking to each other
        await self._call("sendMessage", chat_id=self._address.chat, text=answer[:TEXT_MAX])

    async def _halt(self, asked: Asked, reason: str) -> str:
        age_s = int(time.time()) - asked.at_s
        if age_s > OLD_S:
            return f"not halted: this was written {age_s} s ago, while nobody listened; write it again"
        if not reason:
            return "not halted: found no reason, wanted one: /halt REASON"
        text = f"{reason} ({asked.by})"
        try:
            reply: dict[str, Any] = await asyncio.to_thread(halt_instance, self._state_dir, text, process="monitor")
        except ArbitrageEngineError as error:
            return f"NOT HALTED: {error}"
        warning = f"\n{reply['warning']}" if "warning" in reply else ""
        return f"HALTED: {reply['reason']}{warning}\n`arb resume --reason R` on the host ends it."

    async def _call(self, method: str, **fields: Any) -> Any:
        async with self._session.post(
            f"{self._base}/{method}",
            data=msgspec.json.encode(fields),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=WAIT_S + 10),
            allow_redirects=False,
        ) as reply:
            if reply.status != 200:
                with contextlib.suppress(aiohttp.ClientError):
                    await reply.read()
                raise aiohttp.ClientError(f"HTTP {reply.status}")
            return msgspec.json.decode(await reply.read())
