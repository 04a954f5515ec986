"""`attest add`: a document becomes a signed Statement about a release."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from margo_supplychain.authoring.recording.kept import keep
from margo_supplychain.authoring.recording.statements import (
    MAX_DOCUMENT,
    about_digest,
    about_release,
    bind,
    file_name,
    unread,
)
from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import DIGEST_HINT, typed
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.signing_keys import keyring_of
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import PAYLOAD

if TYPE_CHECKING:
    from margo_supplychain.authoring.recording.statements import About
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.signing.keyring import PinHandler


def add_document(
    invocation: Invocation,
    *,
    file: str,
    name: str | None,
    release: str | None,
    component: str | None,
    subject: str | None,
    key: str,
    pin: PinHandler,
    output: str,
    force: bool,
) -> Result:
    """Bind a document to a release and sign it."""
    made, about = _about(release, component, subject)
    data = read_named(Path(file), limit=MAX_DOCUMENT, what="a document")
    bound = bind(data, about=about, name=name, what=file)
    notes = [] if made is None else unread(bound, made, what=file)
    for note in notes:
        invocation.note(note)
    with keyring_of(invocation, pin) as keyring:
        signer = keyring.open(key)
        keyid = signer.public_key.keyid
        path = Path(output, file_name(bound, about, keyid))
        is_new = keep(path, PAYLOAD, bound.payload, signer, force=force)
    as_it_is = ", as it is" if bound.was_statement else ""
    rows = [
        ("type", bound.predicate_type),
        ("about", f"{about.label}  {about.digest.algorithm}:{about.digest.short}"),
        ("signed", f"by {keyid[:12]}{as_it_is}"),
        ("file", f"{path}" if is_new else f"{path}, which said so already"),
    ]
    place = shlex.quote(release) if release is not None else "DIST"
    # Not this file alone: a record never changes, and links lie beside it.
    follow = f"release publish {place} --attestation {shlex.quote(output)}"
    return Result(
        data={
            "file": str(path),
            "isNew": is_new,
            "type": bound.name,
            "predicateType": bound.predicate_type,
            "wasStatement": bound.was_statement,
            "subject": str(about.digest),
            "subjectName": about.name,
            "keyId": keyid,
            "notes": notes,
        },
        lines=[
            f"attested {bound.name} {file}",
            *describe.table(rows),
            f"next: margo-supplychain {follow}",
        ],
    )


def _about(
    release: str | None, component: str | None, subject: str | None
) -> tuple[Release | None, About]:
    if (release is None) == (subject is None):
        raise click.UsageError("give either --release or --subject: what is it about?")
    if subject is not None:
        if component is not None:
            raise click.UsageError("--component goes with --release")
        with typed(DIGEST_HINT):
            return None, about_digest(Digest.parse(subject))
    from margo_supplychain.authoring.release import Release

    made = Release.from_build(Path(release or ""))
    return made, about_release(made, component)
