"""Secrets come from a terminal that does not show them, or from stdin; never from arguments, which others can read."""

from __future__ import annotations

import getpass
import sys

import msgspec

from pipeline.model.errors import BadInput
from pipeline.model.structs import Credentials

LINES_WANTED = (
    'one JSON object {"api_key": "…", "api_secret": "…", "uid": ""}, or the key and the secret on a line each'
)


def read_passphrase(*, twice: bool = False) -> str:
    """A passphrase: asked for on a terminal (``twice``: and repeated), else one line of stdin. Raises BadInput."""
    if not sys.stdin.isatty():
        found = sys.stdin.readline().rstrip("\n")
    else:
        found = getpass.getpass("Passphrase of the keys: ")
        if twice and found != getpass.getpass("Once more: "):
            raise BadInput("passphrase: found two unlike ones, wanted the same twice")
    if not found:
        raise BadInput("passphrase: found none, wanted one on a terminal or as a line of stdin")
    return found


def read_key() -> Credentials:
    """A key: asked for on a terminal, else the rest of stdin. Raises BadInput, which never quotes what was read."""
    if sys.stdin.isatty():
        key, secret = getpass.getpass("API key (not shown): "), getpass.getpass("API secret (not shown): ")
        found = Credentials(
            api_key=key.strip(), api_secret=secret.strip(), uid=input("User id (may stay empty): ").strip()
        )
    else:
        found = _parsed(sys.stdin.read().strip())
    if not found.api_key or not found.api_secret:
        raise BadInput(f"key: found an empty one, wanted {LINES_WANTED}")
    return found


def _parsed(text: str) -> Credentials:
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=Credentials)
        except msgspec.DecodeError:
            raise BadInput(f"key: found something else, wanted {LINES_WANTED}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) not in (2, 3):
        raise BadInput(f"key: found {len(lines)} lines on stdin, wanted {LINES_WANTED}")
    return Credentials(api_key=lines[0], api_secret=lines[1], uid=lines[2] if len(lines) > 2 else "")
