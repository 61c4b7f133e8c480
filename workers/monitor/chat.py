"""A chat that may read and halt: what its people write is answered, ``/halt REASON`` latches the halt. Nothing resumes.

Telegram alone: its bot interface needs no address of ours that the outside could reach (we ask, and wait for what was
written). The URL of the target is apprise's, ``tgram://NUMBER:TOKEN/CHAT``; what other chats write is not answered. The
URL is a secret: no error has a word of it.

A bot has one reader: what one process takes, no other is given. So of the instances of a host the first one reads, the
others say in the chat that nothing which is written there reaches them; and each answer begins with its instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
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
LOCKS = "chat-locks"  # a folder beside those of the instances: a file for each bot, locked by its reader
CONFLICT = 409  # somebody else asks for the same bot's messages
CONFLICT_S = WAIT_S + 15.0  # what lasts so long is no question that a process before this one has left open
FIX = {
    401: "Telegram does not know the token: keys/alerts.json",
    403: "the bot may not write in this chat: unblock it, or let it in",
    404: "Telegram does not know the token: keys/alerts.json",
    CONFLICT: "another process reads this bot; wanted a bot of its own for each instance",
}
NAME_S = 3.0  # a bot interface that does not say the bot's name for so long keeps nobody from halting
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


class _Refused(Exception):
    """The bot interface answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


#: What a question to the bot interface may end with.
FAILURES = (_Refused, aiohttp.ClientError, OSError, msgspec.DecodeError, KeyError, TypeError)


def _problem(error: BaseException) -> str:
    if isinstance(error, _Refused):
        return ": ".join([str(error), *filter(None, [FIX.get(error.status)])])
    return f"not reachable ({type(error).__name__})"  # its own text names the URL


class Chat:
    """Asks for messages and answers them until it is cancelled.

    ``status`` and ``alerts``: the texts of now. ``say``: one line for operators. ``api``: where Telegram's bot
    interface is. ``conflict_s``: how long somebody else has to read the bot until that is told in the chat. The state
    folder's name is the instance's.
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
        conflict_s: float = CONFLICT_S,
    ) -> None:
        self._conflict_s = conflict_s
        self._address, self._session, self._state_dir = address, session, state_dir
        self._status, self._alerts, self._say = status, alerts, say
        self._base = f"{api.rstrip('/')}/bot{address.token}"
        self._next = 0
        self._problem = ""
        self._sent = ""
        self._name = ""  # of the bot, in lower case; "" = not known yet
        self._read_s = time.monotonic()  # when its messages were last given to us
        self._lock: int | None = None

    async def run(self) -> None:
        """Asks on and on; a failure is said once, and tried again."""
        try:
            while True:
                problem, elsewhere = await self._round()
                if problem and problem != self._problem:
                    self._say("error" if elsewhere else "warning", f"chat: {problem}; tried again every {AGAIN_S:g} s")
                self._problem = problem
                if elsewhere:
                    await self._tell(problem)
                if problem:
                    await asyncio.sleep(AGAIN_S)
        finally:
            if self._lock is not None:
                os.close(self._lock)
            self._lock = None

    async def _round(self) -> tuple[str, bool]:
        """Asks once, and answers; (what went wrong, whether it is that somebody else reads the bot)."""
        try:
            holder = self._taken_by()
            if holder:
                return f"instance {holder} reads this bot; wanted one of its own for each instance", True
            found = await self._written()
            self._read_s = time.monotonic()
            for asked in found:
                self._next = asked.update + 1
                await self._take(asked)
        except FAILURES as error:
            conflict = isinstance(error, _Refused) and error.status == CONFLICT
            return _problem(error), conflict and time.monotonic() >= self._read_s + self._conflict_s
        return "", False

    def _taken_by(self) -> str:
        """Takes the bot for this instance; the instance that has it already, "" where it is ours. A disk that does not
        let it be known keeps nobody from halting."""
        if self._lock is not None:
            return ""
        number = self._address.token.partition(":")[0]
        try:
            folder = self._state_dir.parent / LOCKS
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder / number, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            os.close(descriptor)
            return holder or "?"
        self._lock = descriptor
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{self._state_dir.name}\n".encode(), 0)
        return ""

    async def _tell(self, problem: str) -> None:
        """Says once in the chat that nothing which is written there reaches this instance."""
        if problem == self._sent:
            return
        with contextlib.suppress(*FAILURES):
            await self._send(f"/halt in this chat does not reach this instance: {problem}")
            self._sent = problem

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
        command, _, bot = command.lower().partition("@")  # in a group: /halt@the_bot
        if not command.startswith("/") or await self._is_another(bot):
            return  # people talking to each other, or to the bot of another instance
        try:
            answer = await self._answer(asked, command, rest.strip())
        except (ArbitrageEngineError, OSError) as error:  # memory of another build, a disk that refuses
            answer = f"{'NOT HALTED' if command == '/halt' else command}: {error}"
        try:
            await self._send(answer)
        except FAILURES as error:
            self._say("warning", f"chat: the answer to {command} by {asked.by} was not sent: {_problem(error)}")

    async def _is_another(self, bot: str) -> bool:
        """Whether a name in lower case is known to be that of another bot; "" is nobody's."""
        if bot and bot != self._name:
            with contextlib.suppress(*FAILURES):  # TimeoutError is an OSError
                async with asyncio.timeout(NAME_S):
                    self._name = (await self._call("getMe"))["result"]["username"].lower()
        return bool(bot and self._name) and bot != self._name

    async def _answer(self, asked: Asked, command: str, rest: str) -> str:
        if command == "/status":
            return self._status()
        if command == "/alerts":
            return self._alerts()
        if command == "/halt":
            return await self._halt(asked, rest)
        return "Nothing resumes from here: `arb resume --reason R` on the host." if command == "/resume" else HELP

    async def _send(self, text: str) -> None:
        """Tells the chat, with the instance in front: several may write there."""
        text = f"{self._state_dir.name}: {text}"
        await self._call("sendMessage", chat_id=self._address.chat, text=text[:TEXT_MAX])

    async def _halt(self, asked: Asked, reason: str) -> str:
        age_s = int(time.time()) - asked.at_s
        if age_s > OLD_S:
            return f"not halted: this was written {age_s} s ago, while nobody listened; write it again"
        if not reason:
            return "not halted: found no reason, wanted one: /halt REASON"
        text = f"{reason} ({asked.by})"
        reply: dict[str, Any] = await asyncio.to_thread(halt_instance, self._state_dir, text, process="monitor")
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
                raise _Refused(reply.status)
            return msgspec.json.decode(await reply.read())
