"""How commands speak: one JSON object on stdout with ``--json``, words otherwise; progress and prose on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.model.errors import ArbitrageEngineError

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_USAGE = 2
EXIT_COULD_NOT_START = 3
EXIT_INTERRUPTED = 130


class OutputLost(ArbitrageEngineError):
    """What a command had to say could not be written."""


def _encode(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if hasattr(value, "item"):  # numpy scalars
        return value.item()
    raise TypeError(f"not JSON: {type(value).__name__}")


def to_json(value: Any) -> str:
    """One line; Decimals as plain strings."""
    return msgspec.json.encode(_plain(value), enc_hook=_encode).decode()


def _plain(value: Any) -> Any:
    """Decimals to plain text everywhere (never exponents), tuples to lists, keys to strings."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def say(text: str) -> None:
    """One line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def emit(value: Any, *, as_json: bool, words: Callable[[Any], str]) -> None:
    """The result of a command on stdout: the object itself, or ``words(object)``."""
    write(to_json(value) if as_json else words(value))


def write(text: str) -> None:
    """``text`` and a line end on stdout; a reader that has gone (``| head``) changes nothing about the command.

    Raises OutputLost where stdout cannot take it (a full device).
    """
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise OutputLost(f"stdout cannot be written ({error.strerror}); the command's result is lost") from None


def drop_stdout() -> None:
    """stdout leads nowhere from now on: without this the interpreter complains about it once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def stderr_is_terminal() -> bool:
    return sys.stderr.isatty()
