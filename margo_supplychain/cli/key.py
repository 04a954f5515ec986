"""`margo-supplychain key`: make, show and import keys, and see what tokens hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.key_generate import generate
from margo_supplychain.cli.key_records import public_file, record_data, write_record
from margo_supplychain.cli.key_tokens import tokens
from margo_supplychain.cli.options import epilog, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.signing_keys import keyring_of
from margo_supplychain.errors import KeyFormatError

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.public_files import KeyRecord


@click.group()
def key() -> None:
    """Make, show and import keys, and see what tokens hold."""


key.add_command(generate)
key.add_command(tokens)


@key.command(
    epilog=epilog(
        examples=[
            "key show offline.pub",
            "key show 'pkcs11:token=root-a;object=root'",
            "--format json key show ci.key",
        ],
        exits=[0, 2, 6],
        follow="app add acme/pump-monitor --release-key ci.pub",
    )
)
@click.argument("uri", metavar="KEY")
@passphrase_options()
@pass_invocation
def show(invocation: Invocation, *, uri: str, pin: Passphrases) -> Result:
    """Show a key's type and id; a private key is opened only if it must be.

    KEY is a file or the URI of a key in a token or key service.
    """
    from margo_supplychain.signing.keys import describe, short_id
    from margo_supplychain.signing.pkcs11.uri import is_token_uri

    with keyring_of(invocation, pin) as keyring:
        private, public = _files_of(uri)
        asked = pin.given if private is not None else pin.pins_given
        found = keyring.look(uri, custody=asked)
        opened = private is not None and public is None
        if asked and (private is not None or is_token_uri(found.uri or "")):
            keyring.open(uri, expect=found.key)
            opened = True
    where = private or found.uri
    lines = [
        f"key {short_id(found.key)}",
        f"  type     {describe(found.key)}, scheme {found.key.scheme}",
        f"  id       {found.key.keyid}",
    ]
    if opened:
        lines.append(f"  private  {where}, opens")
    elif private is not None:
        lines.append(f"  private  {where}, not opened: the id is that of {public}")
    elif where is not None:
        lines.append(f"  private  {where}")
    # A `.pub` file says what whoever wrote it wants; only who opens the key knows.
    claimed = private is None and public is not None and not opened
    if found.custody is not None:
        recorded = f", recorded in {public}: its token was not asked" if claimed else ""
        lines.append(f"  custody  {found.custody.text}{recorded}")
    data = record_data(found, private=private, public=public, claimed=claimed)
    return Result(data=data, lines=lines)


@key.command(
    "import",
    epilog=epilog(
        examples=[
            "key import vendor.pem --out vendor.pub",
            "key import - --out token.pub < key.der",
            "key import 'pkcs11:token=root-a;object=root' --out root-a.pub",
            "key import awskms:alias/release --out release.pub",
        ],
        exits=[0, 2, 4, 6],
        follow="app add acme/pump-monitor --release-key vendor.pub",
    ),
)
@click.argument("uri", metavar="KEY")
@click.option("--out", required=True, metavar="FILE.pub", help="Where to write it.")
@click.option("--force", is_flag=True, help="Overwrite --out.")
@passphrase_options()
@pass_invocation
def import_(
    invocation: Invocation, *, uri: str, out: str, force: bool, pin: Passphrases
) -> Result:
    """Write a public key in the form used here, with the URI of its private half.

    KEY is a public key's file (PEM, DER, TUF key object), or the URI of a key in a
    token or key service. Where a file says that its private half is, is left out: that
    is of the machine of whoever wrote it.
    """
    from margo_supplychain.signing.keyring import is_file, path_of
    from margo_supplychain.signing.keys import describe, short_id

    path = public_file(out)
    if uri == "-" or is_file(uri):
        found = _read(uri)
        if uri != "-" and path.exists() and path.samefile(path_of(uri)):
            raise click.UsageError(f"--out {out} is the file that is read")
    else:
        with keyring_of(invocation, pin) as keyring:
            found = keyring.look(uri)
    write_record(path, found, force=force)
    lines = [f"wrote {out} ({describe(found.key)}); key id {short_id(found.key)}"]
    if found.uri is not None:
        custody = "" if found.custody is None else f", {found.custody.text}"
        lines.append(f"  private  {found.uri}{custody}")
    elif found.custody is not None:
        lines.append(
            f"  custody  {found.custody.text}, as it was recorded: no token was asked"
        )
    claimed = found.uri is None
    data = record_data(found, private=None, public=path, claimed=claimed)
    return Result(data=data, lines=lines)


def _files_of(uri: str) -> tuple[Path | None, Path | None]:
    """Return which private and which public file a key has, as far as there are any."""
    from margo_supplychain.signing import files
    from margo_supplychain.signing.keyring import is_file, path_of

    if not is_file(uri):
        return None, None
    path = path_of(uri)
    if files.read_public(path) is not None:
        return None, path
    beside = files.public_path(path)
    return path, beside if beside.exists() else None


def _read(file: str) -> KeyRecord:
    from margo_supplychain.cli.files import read_named
    from margo_supplychain.signing.keyring import path_of
    from margo_supplychain.signing.keys import MAX_PUBLIC_KEY
    from margo_supplychain.signing.public_files import KeyRecord

    limit = MAX_PUBLIC_KEY
    if file == "-":
        name = "the standard input"
        data = sys.stdin.buffer.read(limit + 1)
        if len(data) > limit:
            raise KeyFormatError(f"{name} has more than {limit} bytes")
    else:
        name = file
        data = read_named(path_of(file), limit=limit, what="a key")
    found = KeyRecord.parse(data, what=name)
    return KeyRecord(key=found.key, custody=found.custody)
