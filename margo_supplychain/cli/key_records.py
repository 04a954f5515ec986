"""Public keys as the `key` commands write and print them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.errors import ConflictError, KeyFormatError, StorageError

if TYPE_CHECKING:
    from margo_supplychain.signing.public_files import KeyRecord


def public_file(out: str) -> Path:
    """Return `--out` as a path, checked before anything is made or asked.

    Raises:
        click.UsageError: it is not named like a public key.
        StorageError: nothing can be written there.
    """
    path = Path(out)
    if path.suffix != ".pub":
        raise click.UsageError(f"--out {out} does not end in .pub")
    problem = None
    if not path.parent.is_dir():
        problem = f"{path.parent} is not a directory"
    elif path.is_dir() or (path.is_symlink() and not path.exists()):
        problem = f"{out} is a directory, or a link to nothing"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        problem = f"{path.parent} can't be written to"
    if problem is not None:
        raise StorageError(problem, path=out, hint="name a file that can be written")
    return path


def write_record(path: Path, record: KeyRecord, *, force: bool) -> None:
    """Write a `.pub` file.

    Raises:
        KeyFormatError: another key is there, and `force` is not given.
        StorageError: the disk refuses.
    """
    from margo_supplychain.storage import durable

    try:
        write = durable.write_file if force else durable.write_new_file
        write(path, record.to_bytes())
    except ConflictError as why:
        raise KeyFormatError(
            f"{path} exists and holds something else", hint="--force overwrites it"
        ) from why


def record_data(
    found: KeyRecord,
    *,
    private: Path | None,
    public: Path | None,
    claimed: bool = False,
) -> dict[str, Any]:
    """Return a key for JSON, with the files that hold its halves.

    Args:
        found: the key.
        private: the file of its private half.
        public: the file of its public half.
        claimed: only a file says how its private half is kept.
    """
    from margo_supplychain.signing.keys import public_pem

    return {
        "keyId": found.key.keyid,
        "keyType": found.key.keytype,
        "scheme": found.key.scheme,
        "publicKey": public_pem(found.key).decode("ascii"),
        "privateFile": None if private is None else str(private),
        "privateUri": found.uri,
        "publicFile": None if public is None else str(public),
        "custody": None if found.custody is None else found.custody.text,
        "custodySaidBy": (
            None if found.custody is None else "file" if claimed else "token"
        ),
    }
