"""Whether a command that a text names is one of the command line."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup


def unknown_in(words: str, root: TyperGroup) -> str:
    """What of ``arb WORDS`` does not exist; "" where all does."""
    command: Any = root
    for word in words.replace("\\|", " | ").split():
        if word.startswith("--"):
            name = re.split(r"[=\]|,;)]", word)[0]
            if name not in {"--help", *(option for param in command.params for option in param.opts)}:
                return name
        elif isinstance(command, TyperGroup) and word[0].isalpha() and word.islower():
            found = command.commands.get(re.split(r"[|,;:]", word)[0])
            if found is None:
                return word
            command = found
    return ""
