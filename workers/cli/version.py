"""``arb --version``: the version of the installed package, or of the checkout."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.model.errors import ArbitrageEngineError

DISTRIBUTION = "arb-engine"
CHECKOUT = Path(__file__).resolve().parents[2]


def engine_version(distribution: str = DISTRIBUTION, checkout: Path = CHECKOUT) -> str:
    """Version from the package's metadata, else from ``pyproject.toml`` of the checkout.

    Raises ArbitrageEngineError where there is neither.
    """
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a checkout that is not installed
        pass
    project = checkout / "pyproject.toml"
    try:
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ArbitrageEngineError(
            f"found neither metadata of {distribution} nor a version in {project} ({error}), wanted one of them; "
            "run scripts/install in a checkout"
        ) from None
