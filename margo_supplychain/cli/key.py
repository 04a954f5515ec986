"""`margo-supplychain key`: make, show and import keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.options import epilog, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.errors import KeyFormatError, SignerError

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from margo_supplychain.cli.passphrases import Passphrases

# Not imported from `signing`: `--help` must not load cryptography. A test compares.
_SCHEMES: Final = ("ecdsa-sha2-nistp256", "ed25519", "rsassa-pss-sha256")
_DEFAULT_SCHEME: Final = _SCHEMES[0]


@click.group()
def key() -> None:
    """Make, show and import keys."""


@key.command(
    epilog=epilog(
        examples=[
            "key generate offline.key",
            "key generate ci.key --scheme ed25519 --passphrase-file ci.passphrase",
        ],
        exits=[0, 2, 4, 6],
        follow="repo init trust --publisher acme --offline-key offline.key …",
    )
)
@click.argument("path")
@click.option(
    "--scheme",
    type=click.Choice(_SCHEMES),
    default=_DEFAULT_SCHEME,
    show_default=True,
    help="RSA keys have 3072 bits.",
)
@click.option("--force", is_flag=True, help="Overwrite: the old key is lost.")
@passphrase_options(new=True)
def generate(path: str, *, scheme: str, force: bool, pin: Passphrases) -> Result:
    """Make a key: PATH (encrypted, only yours) and its public half beside it."""
    from margo_supplychain.signing.files import public_path
    from margo_supplychain.signing.keyring import generate_key, path_of
    from margo_supplychain.signing.keys import describe, short_id

    made = generate_key(path, scheme=scheme, pin=pin, replace=force).key
    private = path_of(path)
    public = public_path(private)
    written = (
        f"wrote {private} ({describe(made)}, encrypted, 0600) and {public}; "
        f"key id {short_id(made)}"
    )
    if any(word in private.name for word in ("offline", "root")):
        advice = f"keep {private} off every build machine: docs/how-to/keys.md"
    else:
        advice = f"keep {private} secret, give away {public}: docs/how-to/keys.md"
    return Result(
        data=_data(made, private=private, public=public),
        lines=[
            written,
            advice,
        ],
    )


@key.command(
    epilog=epilog(
        examples=["key show offline.pub", "--format json key show ci.key"],
        exits=[0, 2, 6],
        follow="app add acme/pump-monitor --release-key ci.pub",
    )
)
@click.argument("file")
@passphrase_options()
def show(file: str, *, pin: Passphrases) -> Result:
    """Show a key's type and id; a private key is opened only if it must be."""
    from margo_supplychain.signing import files
    from margo_supplychain.signing.keys import describe, parse_public_key, short_id

    path = Path(file)
    data = _read(file, files.MAX_KEY_FILE)
    private, public = None, None
    notes: list[str] = []
    if not files.is_private(data):
        found = parse_public_key(data, what=file)
        public = path
    else:
        private = path
        beside = files.public_path(path)
        half = None
        if beside.exists():
            public = beside
            half = parse_public_key(
                _read(str(beside), files.MAX_KEY_FILE), what=str(beside)
            )
        if half is not None and not pin.given:
            found = half
            notes.append(f"  private  {path}, not opened: the id is that of {beside}")
        else:
            found = _open(path, half, pin)
            notes.append(f"  private  {path}, opens")
    return Result(
        data=_data(found, private=private, public=public),
        lines=[
            f"key {short_id(found)}",
            f"  type     {describe(found)}, scheme {found.scheme}",
            f"  id       {found.keyid}",
            *notes,
        ],
    )


@key.command(
    "import",
    epilog=epilog(
        examples=[
            "key import vendor.pem --out vendor.pub",
            "key import - --out token.pub < key.der",
        ],
        exits=[0, 2, 4],
        follow="app add acme/pump-monitor --release-key vendor.pub",
    ),
)
@click.argument("file")
@click.option("--out", required=True, metavar="FILE.pub", help="Where to write it.")
@click.option("--force", is_flag=True, help="Overwrite --out.")
def import_(file: str, *, out: str, force: bool) -> Result:
    """Bring a public key (PEM, DER, TUF key object) into the form used here."""
    from margo_supplychain.errors import ConflictError
    from margo_supplychain.signing.keys import (
        MAX_PUBLIC_KEY,
        describe,
        parse_public_key,
        public_pem,
        short_id,
    )
    from margo_supplychain.storage import durable

    path = Path(out)
    if path.suffix != ".pub":
        raise click.UsageError(f"--out {out} does not end in .pub")
    name = "the standard input" if file == "-" else file
    found = parse_public_key(_read(file, MAX_PUBLIC_KEY), what=name)
    if file != "-" and path.exists() and path.samefile(file):
        raise click.UsageError(f"--out {out} is the file that is read")
    try:
        write = durable.write_file if force else durable.write_new_file
        write(path, public_pem(found))
    except ConflictError as why:
        raise KeyFormatError(
            f"{out} exists and holds something else", hint="--force overwrites it"
        ) from why
    return Result(
        data=_data(found, private=None, public=path),
        lines=[f"wrote {out} ({describe(found)}); key id {short_id(found)}"],
    )


def _open(path: Path, half: SSlibKey | None, pin: Passphrases) -> SSlibKey:
    from securesystemslib.signer import SSlibKey

    from margo_supplychain.signing.keyring import open_keyring

    with open_keyring(pin=pin) as keyring:
        found = keyring.open(f"file:{path}", expect=half).public_key
    if not isinstance(found, SSlibKey):
        raise SignerError(f"{path} is not a key in a file")
    return found


def _read(file: str, limit: int) -> bytes:
    from margo_supplychain.cli.files import read_named

    if file == "-":
        data = sys.stdin.buffer.read(limit + 1)
        if len(data) > limit:
            raise KeyFormatError(f"the standard input has more than {limit} bytes")
        return data
    return read_named(Path(file), limit=limit, what="a key")


def _data(
    found: SSlibKey, *, private: Path | None, public: Path | None
) -> dict[str, Any]:
    from margo_supplychain.signing.keys import public_pem

    return {
        "keyId": found.keyid,
        "keyType": found.keytype,
        "scheme": found.scheme,
        "publicKey": public_pem(found).decode("ascii"),
        "privateFile": None if private is None else str(private),
        "publicFile": None if public is None else str(public),
    }
