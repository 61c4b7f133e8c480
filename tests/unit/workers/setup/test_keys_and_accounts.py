"""Keys as they lie there, what is asked with them in any mode, and the commands that mend them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import AuthRefused, BadInput, ConfigInvalid, VenueError, VenueUnavailable
from pipeline.model.structs import Balance, Credentials, KeyRights
from tests.worlds.exchange_world import world
from workers.account_clients import KeyRole
from workers.credentials import key_fix, key_fix_of, missing_keys, store_credentials
from workers.locked_keys import decrypt
from workers.setup.account_answer import ask_account, keys_to_ask
from workers.setup.checks import Check, State
from workers.setup.key_checks import key_checks
from workers.setup.keys import add_key, try_keys
from workers.setup.network_checks import ask_key, ask_settings
from workers.setup.online import VenueAnswer, account_rows, venue_rows
from workers.setup.readiness import before_live, lacks_for_live
from workers.state_folder import instance_dir

NAME = "my_engine-1"  # as `engine_name` takes it
KEY = Credentials(api_key="a-key-of-mine", api_secret="a-secret-of-mine")
PLAIN = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["BTC_USDT"], "ws_api": "ws://127.0.0.1:1"}


def paper(**more: Any) -> EngineConfig:
    exchanges = {name: {"dialect": "gateio", "markets": {"spot": PLAIN}} for name in ("gateio", "other")}
    return config_from_mapping({"engine_name": NAME, "mode": "paper", "exchanges": exchanges, **more})


def named(rows: list[Check]) -> dict[str, Check]:
    return {row.name: row for row in rows}


class Client:
    """A venue that answers some questions of an account."""

    def __init__(self, *, balances: VenueError | None = None, rights: VenueError | None = None) -> None:
        self.balances_error, self.rights_error = balances, rights
        self.closed = False

    async def apply_account_settings(self, symbols: Sequence[str], leverage: Decimal) -> None:
        return

    async def balances(self) -> list[Balance]:
        if self.balances_error is not None:
            raise self.balances_error
        return []

    async def positions(self) -> list[Any]:
        return []

    async def key_rights(self) -> KeyRights:
        if self.rights_error is not None:
            raise self.rights_error
        return KeyRights(withdraw=False)

    async def close(self) -> None:
        self.closed = True


def asked(client: Any) -> dict[str, Check]:
    rows = asyncio.run(ask_key(client, paper().venues[0], "FIX"))
    assert client.closed
    return named(rows)


@pytest.mark.parametrize("error", [AuthRefused("no permission for account detail"), VenueUnavailable("down")])
def test_a_key_whose_rights_are_not_told_is_accepted_all_the_same(error: VenueError) -> None:
    rows = asked(Client(rights=error))
    assert rows["key of gateio accepted"].state is State.OK
    right = rows["key of gateio withdrawal right"]
    assert right.state is State.UNKNOWN and str(error) in right.found


def test_an_account_that_is_not_there_yet_does_not_refuse_the_key() -> None:
    rows = asked(Client(balances=AuthRefused("please transfer funds first", api_code="USER_NOT_FOUND")))
    assert rows["key of gateio accepted"].state is State.WARN
    assert rows["key of gateio withdrawal right"].state is State.OK
    (refused,) = asked(Client(balances=AuthRefused("invalid key"))).values()
    assert (refused.state, refused.fix) == (State.FAIL, "FIX")
    rows = asked(Client(balances=VenueUnavailable("down")))
    assert rows["key of gateio accepted"].state is State.UNKNOWN


def test_paper_asks_with_the_keys_that_are_there_and_says_which_are_not(state_dir: Path) -> None:
    config = paper()
    keys, rows = keys_to_ask(config, NAME)
    assert keys == {} and [row.state for row in rows] == [State.UNKNOWN, State.UNKNOWN]
    store_credentials(NAME, "gateio", KEY)
    add_key(NAME, "other", KeyRole.TRADE, KEY, "open sesame", replace=False)
    keys, (locked,) = keys_to_ask(config, NAME)
    assert keys == {"gateio": KEY}
    assert (locked.state, locked.fix) == (
        State.UNKNOWN,
        f"`arb keys test other --instance {NAME} --passphrase`",
    )
    assert named(key_checks(config, NAME))["key of other"].found == "present, encrypted"
    path = instance_dir(NAME) / "keys" / "gateio.json"
    path.chmod(0o644)
    keys, rows = keys_to_ask(config, NAME)
    assert keys == {} and (rows[0].state, rows[0].fix) == (State.FAIL, f"`chmod 600 {path}`")


def test_limits_are_unknown_where_not_every_account_answered() -> None:
    config = paper()
    (row,) = account_rows(config, {venue.name: VenueAnswer() for venue in config.venues})
    assert (row.state, row.found) == (State.UNKNOWN, "0 of 2 accounts answered")


def test_an_account_whose_positions_did_not_answer_is_worth_nothing_known() -> None:
    """Its unrealised P&L is missing, so what the accounts are worth is not known."""

    class Futures(Client):
        async def positions(self) -> list[Any]:
            raise VenueUnavailable("down")

    config = paper()
    answers = {
        venue.name: VenueAnswer(specs=[], account=asyncio.run(ask_account(client, venue)))  # type: ignore[arg-type]
        for venue, client in zip(config.venues, (Client(), Futures()), strict=True)
    }
    (row,) = account_rows(config, answers)
    assert (row.state, row.found) == (State.UNKNOWN, "1 of 2 accounts answered")


def test_before_live_is_the_check_of_the_same_configuration_in_live(state_dir: Path) -> None:
    config = paper(features={"enable_dry_run": True})
    store_credentials(NAME, "other", Credentials(api_key="...", api_secret="..."))
    found = before_live(config, NAME)
    for text in (
        "exchanges.gateio.markets.spot.rest: 'http://127.0.0.1:1' is plain text, refused in live mode",
        "features.enable_dry_run: found true with mode live",
        "exchanges.gateio: found no key",
        "keys/other.json: found a sample text",
    ):
        assert any(text in line for line in found), (text, found)
    assert any("enable_dry_run" in row.what for row in lacks_for_live(config, NAME, "c.yaml"))


def test_every_command_that_mends_a_key_is_one_that_is_taken(state_dir: Path) -> None:
    keys = instance_dir(NAME) / "keys"
    assert key_fix(NAME, "mexc") == f"`arb keys add mexc --instance {NAME}`"
    assert key_fix(NAME, "mexc", "guard") == f"`arb keys add mexc --role guard --instance {NAME}`"
    fields = add_key(NAME, "mexc", KeyRole.READ, KEY, "", replace=False)
    assert fields["next"] == f"arb keys test mexc --instance {NAME}"
    assert key_fix(NAME, "mexc", "read") == f"`arb keys add mexc --role read --instance {NAME} --replace`"
    assert key_fix_of(keys / "mexc.read.json") == key_fix(NAME, "mexc", "read")
    fields = add_key(NAME, "mexc", KeyRole.TRADE, KEY, "open sesame", replace=False)
    assert fields["next"] == f"arb keys test mexc --instance {NAME} --passphrase"
    assert key_fix(NAME, "mexc") == f"`arb keys add mexc --instance {NAME} --encrypt --replace`"
    (keys / "mexc.json.fernet").write_text("nonsense")
    with pytest.raises(ConfigInvalid) as damaged:
        decrypt(keys / "mexc.json.fernet", "open sesame")
    assert key_fix(NAME, "mexc") in str(damaged.value)
    (keys / "gateio.json").write_text("nonsense")
    (keys / "gateio.json").chmod(0o600)
    with pytest.raises(BadInput) as unread:
        try_keys(paper(), NAME, "gateio", "")
    assert f"`arb keys add gateio --instance {NAME} --replace`" in str(unread.value)
    store_credentials(NAME, "gateio", Credentials(api_key="...", api_secret="..."))
    assert "--replace` writes it" in missing_keys(paper(), NAME)[0]


HOLDERS = (
    ("keys", "add", "mexc", "--role", "nobody"),
    ("keys", "list"),
    ("keys", "test"),
    ("doctor", "--offline"),
    ("config", "check"),
    ("init",),
    ("pairs", "--pairs", "0"),
)


def test_a_command_that_reads_keys_cannot_be_dumped(state_dir: Path, tmp_path: Path) -> None:
    script = (
        "import ctypes, json, sys\n"
        "from workers.cli import main\n"
        "libc, found = ctypes.CDLL(None), []\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    libc.prctl(4, 1, 0, 0, 0)\n"
        "    main.main(words)\n"
        "    found.append(libc.prctl(3, 0, 0, 0, 0))\n"
        "sys.stderr.write('\\n' + json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, msgspec.json.encode(HOLDERS).decode()],
        cwd=tmp_path, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert msgspec.json.decode(done.stderr.splitlines()[-1]) == [0] * len(HOLDERS)


@pytest.mark.parametrize(
    ("name", "mode", "call"),
    [("gateio_futures", "dual", "set_position_mode"), ("gateio_spot", "portfolio", "unified_mode")],
)
def test_an_account_in_a_wrong_mode_fails_and_names_the_call(name: str, mode: str, call: str) -> None:
    async def body() -> None:
        async with world("demo") as box:
            venue = box.venue(name)
            for wrong in (True, False):
                back = "single" if mode == "dual" else "classic"
                box.fault(kind="change_mode", venue=name, text=mode if wrong else back)
                client = make_venue(venue, box.credentials(name))
                answer = await ask_account(client, venue)
                (row, *_) = venue_rows(venue, VenueAnswer(account=answer), "FIX")
                assert row.state is (State.FAIL if wrong else State.OK)
                assert (call in row.fix and "wanted" in row.found) is wrong
                rows = named(await ask_key(client, venue, "FIX"))
                assert rows["key of gateio accepted"].state is row.state
                client = make_venue(venue, box.credentials(name))
                assert [one.state for one in await ask_settings(client, venue)] == [State.FAIL] * wrong

    asyncio.run(body())
