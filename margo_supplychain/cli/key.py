"""`margo-supplychain key`: make, show and import keys, and see what tokens hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, passphrase_options
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.signing_keys import keyring_of
from margo_supplychain.errors import KeyFormatError

if TYPE_CHECKING:
    from margo_supplychain.cli.passphrases import Passphrases
    from margo_supplychain.signing.public_files import KeyRecord

# Not imported from `signing`: `--help` must not load cryptography. A test compares.
_SCHEMES: Final = (
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ed25519",
    "rsassa-pss-sha256",
)
_DEFAULT_SCHEME: Final = _SCHEMES[0]


@click.group()
def key() -> None:
    """Make, show and import keys, and see what tokens hold."""


@key.command(
    epilog=epilog(
        examples=[
            "key generate offline.key",
            "key generate ci.key --scheme ed25519 --passphrase-file ci.passphrase",
            "key generate --uri 'pkcs11:token=root-a;object=root' --out root-a.pub",
        ],
        exits=[0, 2, 4, 6],
        follow="repo init trust --publisher acme --offline-key offline.key …",
    )
)
@click.argument("path", required=False)
@click.option(
    "--uri",
    metavar="URI",
    help="In place of PATH: make it inside a token, pkcs11:token=LABEL;object=NAME.",
)
@click.option(
    "--out",
    metavar="FILE.pub",
    help="With --uri: write the public key and its URI there, to be given as KEY.",
)
@click.option(
    "--scheme",
    type=click.Choice(_SCHEMES),
    default=_DEFAULT_SCHEME,
    show_default=True,
    help="RSA keys have 3072 bits.",
)
@click.option("--force", is_flag=True, help="Overwrite: the old key is lost.")
@passphrase_options(new=True)
@pass_invocation
def generate(
    invocation: Invocation,
    *,
    path: str | None,
    uri: str | None,
    out: str | None,
    scheme: str,
    force: bool,
    pin: Passphrases,
) -> Result:
    """Make a key: PATH (encrypted, only yours) and its public half beside it.

    With --uri the key is made inside a token and never leaves it.
    """
    from margo_supplychain.signing.keyring import generate_key, is_file

    if (path is None) == (uri is None):
        raise click.UsageError("give either PATH or --uri")
    named = uri or path or ""
    if is_file(named) != (uri is None):
        raise click.UsageError(
            f"{named} is a key in a file: give it as PATH"
            if path is None
            else f"{named} is not a file: give it by --uri"
        )
    record_to = None if out is None else _public_file(out, force=force)
    if path is not None:
        if out is not None:
            raise click.UsageError("--out goes with --uri; PATH has its .pub beside it")
        made = generate_key(path, scheme=scheme, pin=pin, replace=force)
        return _made_file(path, made)
    made = generate_key(
        named,
        scheme=scheme,
        pin=pin,
        replace=force,
        pkcs11_module=invocation.settings.pkcs11_module,
    )
    if record_to is not None:
        _write(record_to, made, force=force)
    return _made_inside(made, record_to)


def _made_file(named: str, made: KeyRecord) -> Result:
    from margo_supplychain.signing.files import public_path
    from margo_supplychain.signing.keyring import path_of
    from margo_supplychain.signing.keys import describe, short_id

    private = path_of(named)
    public = public_path(private)
    written = (
        f"wrote {private} ({describe(made.key)}, encrypted, 0600) and {public}; "
        f"key id {short_id(made.key)}"
    )
    if any(word in private.name for word in ("offline", "root")):
        advice = f"keep {private} off every build machine: docs/how-to/keys.md"
    else:
        advice = f"keep {private} secret, give away {public}: docs/how-to/keys.md"
    return Result(
        data=_data(made, private=private, public=public), lines=[written, advice]
    )


def _made_inside(made: KeyRecord, out: Path | None) -> Result:
    from margo_supplychain.signing.keys import describe, short_id

    custody = "" if made.custody is None else f", {made.custody.text}"
    said = f"{describe(made.key)}{custody}"
    if out is None:
        follow = f"next: margo-supplychain key import '{made.uri}' --out FILE.pub"
    else:
        follow = f"wrote {out}: give it as KEY, and to whoever needs the public key"
    return Result(
        data=_data(made, private=None, public=out),
        lines=[f"made {made.uri} ({said}); key id {short_id(made.key)}", follow],
    )


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

    with keyring_of(invocation, pin) as keyring:
        private, public = _files_of(uri)
        asked = pin.given if private is not None else pin.pins_given
        found = keyring.look(uri)
        opened = private is not None and public is None
        if asked and (private is not None or found.uri is not None):
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
    if found.custody is not None:
        lines.append(f"  custody  {found.custody.text}")
    return Result(data=_data(found, private=private, public=public), lines=lines)


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

    path = _public_file(out, force=True)
    if uri == "-" or is_file(uri):
        found = _read(uri)
        if uri != "-" and path.exists() and path.samefile(path_of(uri)):
            raise click.UsageError(f"--out {out} is the file that is read")
    else:
        with keyring_of(invocation, pin) as keyring:
            found = keyring.look(uri)
    _write(path, found, force=force)
    lines = [f"wrote {out} ({describe(found.key)}); key id {short_id(found.key)}"]
    if found.uri is not None:
        custody = "" if found.custody is None else f", {found.custody.text}"
        lines.append(f"  private  {found.uri}{custody}")
    return Result(data=_data(found, private=None, public=path), lines=lines)


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


def _public_file(out: str, *, force: bool) -> Path:
    """Return `--out` as a path, checked before anything is made or asked."""
    path = Path(out)
    if path.suffix != ".pub":
        raise click.UsageError(f"--out {out} does not end in .pub")
    if not force and path.exists():
        raise KeyFormatError(f"{out} exists", hint="--force overwrites it")
    return path


def _write(path: Path, record: KeyRecord, *, force: bool) -> None:
    from margo_supplychain.errors import ConflictError
    from margo_supplychain.storage import durable

    try:
        write = durable.write_file if force else durable.write_new_file
        write(path, record.to_bytes())
    except ConflictError as why:
        raise KeyFormatError(
            f"{path} exists and holds something else", hint="--force overwrites it"
        ) from why


def _data(
    found: KeyRecord, *, private: Path | None, public: Path | None
) -> dict[str, Any]:
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
    }
