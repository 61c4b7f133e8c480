"""Key files that are encrypted at rest: ``keys/<exchange>.json.fernet``, opened by a passphrase at ``arb up``.

::

    arb-fernet-1 SALT          16 random bytes, base64
    TOKEN                      Fernet (AES-128-CBC, HMAC-SHA256) of the key's JSON; its key: scrypt(passphrase, SALT)

While an instance runs the opened keys lie in sealed memory behind a descriptor (``credentials.OPENED_VARIABLE`` has its
number): in no file, argument or variable. Control plane and fork server hold it, and of the processes those that ask
venues with a key (``keep_own_keys``). The memory ends with the last of them, whatever ends them, and outlives the
``exec`` of an instance that begins anew, which has no passphrase to ask for.
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from pipeline.model.errors import BadInput, ConfigInvalid
from workers.credentials import (
    ALERT_URLS,
    LOCKED_SUFFIX,
    OPENED_LINK,
    OPENED_VARIABLE,
    key_fix_of,
    opened_descriptor,
    opened_keys,
)
from workers.state_folder import instance_dir

MAGIC = "arb-fernet-1"
SALT_BYTES = 16
SCRYPT_LOG2 = 15  # 32 MiB and a tenth of a second for each guess
WITH_KEYS = frozenset({"executor", "guard", "poller"})  # processes that ask venues with a key
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def encrypt(raw: bytes, passphrase: str) -> bytes:
    """The content of a locked file."""
    salt = os.urandom(SALT_BYTES)
    from cryptography.fernet import Fernet  # imported here: most commands need none of it

    token = Fernet(_key(passphrase, salt)).encrypt(raw)
    return f"{MAGIC} {base64.b64encode(salt).decode()}\n{token.decode()}\n".encode()


def decrypt(path: Path, passphrase: str) -> bytes:
    """The JSON in a locked file. Raises BadInput for a wrong passphrase, ConfigInvalid for a damaged file."""
    from cryptography.fernet import Fernet, InvalidToken

    head, _, token = path.read_bytes().decode("ascii", "replace").partition("\n")
    magic, _, salt = head.partition(" ")
    try:
        salt_bytes = base64.b64decode(salt, validate=True)
    except ValueError:
        salt_bytes = b""
    if magic != MAGIC or len(salt_bytes) != SALT_BYTES:
        raise ConfigInvalid([f"{path}: found something else than a locked key; {key_fix_of(path)} writes it anew"])
    try:
        return Fernet(_key(passphrase, salt_bytes)).decrypt(token.strip().encode())
    except InvalidToken:
        raise BadInput(f"{path.name}: the passphrase does not open it (or it is damaged)") from None


def _key(passphrase: str, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    kdf = Scrypt(salt=salt, length=32, n=1 << SCRYPT_LOG2, r=8, p=1)
    return base64.urlsafe_b64encode(kdf.derive(passphrase.encode()))


def locked_files(instance: str) -> list[Path]:
    """Locked key files of an instance, sorted."""
    return sorted((instance_dir(instance) / "keys").glob(f"*.json{LOCKED_SUFFIX}"))


def open_keys(instance: str, ask: Callable[[], str] | None) -> None:
    """Open what is locked, for this process and those that it forks. ``ask`` gives the passphrase; it is not called
    where no file is locked, systemd brings each of them, or they are open already. Raises BadInput, ConfigInvalid."""
    if opened_descriptor() >= 0:
        return
    brought = Path(os.environ.get("CREDENTIALS_DIRECTORY") or os.devnull)
    files = [path for path in locked_files(instance) if not (brought / path.name.removesuffix(LOCKED_SUFFIX)).exists()]
    if not files:
        return
    if ask is None:
        names = ", ".join(path.name for path in files)
        raise ConfigInvalid(
            [f"keys/: {names}: locked, and no passphrase was given; `arb up --passphrase` asks for it, or reads stdin"]
        )
    passphrase = ask()
    opened = {path.name.removesuffix(LOCKED_SUFFIX): decrypt(path, passphrase) for path in files}
    os.environ[OPENED_VARIABLE] = str(sealed(opened))


def sealed(files: Mapping[str, bytes]) -> int:
    """The descriptor of sealed memory with the contents of key files by their names (``mexc.json``). Raises OSError."""
    # Not closed on exec: an instance that begins anew (``control_plane/started_again.py``) must find it.
    name = OPENED_LINK.removeprefix("/memfd:").partition(" ")[0]
    descriptor = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as handle:
            handle.write(msgspec.json.encode(files))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def close_keys() -> None:
    """Give up the opened keys, if there are any."""
    descriptor = opened_descriptor()
    os.environ.pop(OPENED_VARIABLE, None)
    if descriptor >= 0:
        os.close(descriptor)


def keep_own_keys(process: str) -> None:
    """Give up the opened keys that a process of an instance does not work with: all of them, but for those of
    ``WITH_KEYS``, and of the monitor what its targets' URLs are in. Raises OSError (no descriptor is left)."""
    if process in WITH_KEYS:
        return
    urls = f"{ALERT_URLS}.json"
    kept = {urls: raw} if process == "monitor" and (raw := opened_keys().get(urls)) else {}
    close_keys()
    if kept:
        os.environ[OPENED_VARIABLE] = str(sealed(kept))
