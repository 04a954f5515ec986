"""`release submit`: releases, or a file that several have signed, into an inbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe, signing_keys
from margo_supplychain.cli.author import RETRY, signed_data, warn
from margo_supplychain.cli.failures import PROGRAM, hinted
from margo_supplychain.cli.handing import (
    handed_in,
    handed_in_text,
    sent_on,
    submission_data,
)
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.progress import progress
from margo_supplychain.cli.release_publish import proven_data, proven_text
from margo_supplychain.cli.root_files import is_submission
from margo_supplychain.cli.root_submission import opened
from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.written import HandedIn
    from margo_supplychain.cli.author import Author
    from margo_supplychain.formats.record import AttestationReference

_NOTHING: Final = f"nothing was handed in: {RETRY}"


def submit_outputs(
    author: Author, outputs: Sequence[str], attestations: Sequence[bytes] = ()
) -> Result:
    """Hand in what `release build` made, or one file that holders signed apart.

    Args:
        author: with keys and inbox.
        outputs: what is handed in.
        attestations: envelopes about it, if it is one release.

    Raises:
        click.UsageError: a file of that kind, and something besides.
    """
    from margo_supplychain.authoring.release import Release

    files = [one for one in outputs if is_submission(Path(one))]
    if files and len(outputs) > 1:
        raise click.UsageError(f"{files[0]} is a submission, and handed in alone")
    if files and attestations:
        raise click.UsageError(f"{files[0]} is signed already: it takes no attestation")
    for one in outputs:
        if not os.path.lexists(one):
            raise FormatError(
                f"{one}: no such file or directory, expected what `release build` made",
                where=one,
                hint=f"build it first: {PROGRAM} release build DIR --output {one}",
            )
    if not files:
        releases = [Release.from_build(Path(one)) for one in outputs]
        return sent_on(submit_releases(author, releases, attestations))
    return _submit_file(author, Path(files[0]))


def submit_releases(
    author: Author, releases: Sequence[Release], attestations: Sequence[bytes] = ()
) -> Result:
    """Sign releases with the vendor's keys, and hand them in."""
    from margo_supplychain.authoring.publish import require_one

    require_one(releases, attestations)
    repository, memory = author.open(), author.memory()
    if author.submission is None:
        raise TypeError("there is no inbox")
    with hinted(_NOTHING), author.explained(), author.keyring() as keyring:
        keys = author.signers(keyring, *signing_keys.RELEASE)
        with (
            progress(author.invocation) as tell,
            repository.submit(
                keys,
                inbox=author.submission.inbox(author.network),
                file=author.submission.file,
                note=author.submission.note,
                time_checked=author.time_checked,
                state=memory,
                progress=tell,
            ) as edit,
        ):
            new = [edit.add_release(one, attestations=attestations) for one in releases]
            proven = [_proven(edit, one) for one in releases]
    warn(author.invocation, edit.warnings)
    found = handed_in(edit)
    lines = []
    verb = "signed" if found is not None and found.lacking else "handed in"
    for one, is_new, proof in zip(releases, new, proven, strict=True):
        text = f"{verb} {one.name} {one.version}"
        lines += [text if is_new else _before(edit, one)]
        rows = [("record ", _record(edit, one))]
        if any(proof):
            rows.append(("provenance", proven_text(*proof)))
        lines += describe.table(rows)
    if edit.written is not None and edit.written.blobs_restored:
        restored = describe.counted(edit.written.blobs_restored, "blob")
        lines.append(f"  content restored in your registry: {restored}")
    lines += _where(found, author)
    return Result(
        data={
            "repository": author.place,
            "changed": found is not None,
            "releases": [
                _release_data(edit, one, is_new=is_new) | proven_data(*proof)
                for one, is_new, proof in zip(releases, new, proven, strict=True)
            ],
            **_data(found),
            "warnings": list(edit.warnings),
        },
        lines=lines,
    )


def _proven(
    edit: Edit, one: Release
) -> tuple[int | None, tuple[AttestationReference, ...], int]:
    """Return what a release is attested by, as the edit lists it."""
    record = edit.record(one.name, one.version)
    entry = edit.releases(one.name)[one.version]
    return record.layout, record.attestations, len(entry.summaries)


def _before(edit: Edit, one: Release) -> str:
    """Say of a release that is not new whether the operator has taken it."""
    release = f"{one.name} {one.version}"
    waiting = {} if edit.written is None else edit.written.waiting
    for name, releases in waiting.items():
        if release in releases:
            return f"unchanged: {release} waits in the inbox as {name[:12]}"
    return f"unchanged: {release} is published"


def _submit_file(author: Author, file: Path) -> Result:
    from dataclasses import replace

    from margo_supplychain.authoring.submitting import hand_in

    if author.submission is None:
        raise TypeError("there is no inbox")
    start = author.open().handing(state=author.memory())
    start = replace(start, inbox=author.submission.inbox(author.network))
    with hinted(_NOTHING), author.explained(), opened(file) as submission:
        found = hand_in(start, submission)
    warn(author.invocation, found.warnings)
    return Result(
        data={
            "repository": author.place,
            "changed": True,
            "releases": [],
            **_data(found),
            "warnings": list(found.warnings),
        },
        lines=[
            f"handed in {submission.label}, as {file} has it",
            *_where(found, author),
        ],
    )


def _record(edit: Edit, release: Release) -> str:
    role = edit.deciding_role(release.name)
    path = release.name.release_path(release.version.tag)
    version, expires = edit.standing(role)
    distance = describe.distance(expires, at=describe.now())
    return f"{path}  in role {role} v{version}, expires {distance}"


def _where(found: HandedIn | None, author: Author) -> list[str]:
    if found is None:
        return ["nothing was handed in"]
    rows = [("for    ", author.place)]
    if found.name:
        rows.append(("name   ", found.name))
    rows.append(("where  ", handed_in_text(found)))
    if found.after:
        rows.append(("after  ", ", ".join(name[:12] for name in found.after)))
    along = describe.counted(found.blobs_along, "blob")
    pushed = f"{found.blobs_new} pushed, {found.blobs_there} already there"
    rows.append(("content", f"{along} of it come along; {pushed}"))
    lines = describe.table(rows)
    if found.inbox is not None:
        accept = f"margo-supplychain repo accept {found.inbox}"
        lines.append(f"next: the operator takes it in: {accept}")
    return lines


def _release_data(edit: Edit, one: Release, *, is_new: bool) -> dict[str, Any]:
    role = edit.deciding_role(one.name)
    version, expires = edit.standing(role)
    return {
        "name": str(one.name),
        "version": str(one.version),
        "artifact": str(one.artifact.digest),
        "record": one.name.release_path(one.version.tag),
        "isNew": is_new,
        "role": role,
        "roleVersion": version,
        "expires": expires,
    }


def _data(found: HandedIn | None) -> dict[str, Any]:
    if found is None:
        return {"signed": {}, "submission": None, "pushed": {"new": 0, "there": 0}}
    return {
        "signed": signed_data(found.roles),
        "submission": submission_data(found),
        "pushed": {"new": found.blobs_new, "there": found.blobs_there},
    }
