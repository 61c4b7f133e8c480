"""`arb dialect new`: both folders of a dialect, with a file for every part that market data needs.

The skeleton is found, loads, and fails the conformance suite with sentences that name what is not written yet.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from pipeline.model.dialects import NAME, SIDES, dialect_names, roots
from pipeline.model.errors import BadInput

TEMPLATES = Path(__file__).resolve().parent / "templates"
#: Side of a dialect -> its folder of templates.
_SIDE_OF = {"exchanges": "exchanges", "sim/wire": "wire"}
_SUFFIX = ".txt"


def write_skeleton(name: str, root: Path | None = None) -> list[Path]:
    """Writes the files and returns their paths; ``root``: a folder from outside (default: the product's own).

    Raises ``BadInput`` for a name that is taken or cannot be one, and where a folder cannot be written.
    """
    if not NAME.fullmatch(name):
        raise BadInput(f"found dialect name {name!r}, wanted lower-case letters and digits, a letter first, at most 32")
    base = root or roots()[0]
    folders = {side: base / side / name for side in SIDES}
    taken = [folder for folder in folders.values() if folder.exists()]
    taken += [roots()[0] / side / name for side in SIDES if (roots()[0] / side / name).exists()]
    if name in dialect_names() or taken:
        raise BadInput(f"found dialect {name!r} in use ({taken[0] if taken else 'a dialect'}), wanted another name")
    words = {"name": name, "Name": name.capitalize(), "Title": name.capitalize()}
    written = []
    try:
        for side, folder in folders.items():
            folder.mkdir(parents=True)
            for template in sorted((TEMPLATES / _SIDE_OF[side]).glob(f"*{_SUFFIX}")):
                path = folder / template.name.removesuffix(_SUFFIX)
                path.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
                written.append(path)
    except OSError as error:
        raise BadInput(f"cannot write {error.filename}: {error.strerror or error}") from None
    return written
