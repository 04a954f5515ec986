"""Publishing and withdrawing, from the keys to the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.cli import describe, signing_keys
from margo_supplychain.cli.app_policy import command_to_allow
from margo_supplychain.cli.arguments import typed
from margo_supplychain.cli.author import UNPUBLISHED, edit_data, signed_line, warn
from margo_supplychain.cli.failures import hinted
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.progress import progress
from margo_supplychain.formats.release_entry import Withdrawal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.publish import Published, PublishedRelease
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.cli.author import Author
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.record import AttestationReference
    from margo_supplychain.formats.versions import Version


def publish_releases(
    author: Author, releases: Sequence[Release], attestations: Sequence[bytes] = ()
) -> Result:
    """Publish releases with the keys of the place, in one edit; or hand them in.

    Args:
        author: with keys and place.
        releases: what is published.
        attestations: envelopes about it, if it is one.
    """
    if author.submission is not None:
        from margo_supplychain.cli.release_submit import submit_releases

        return submit_releases(author, releases, attestations)
    from margo_supplychain.authoring.publish import publish

    repository, memory = author.open(), author.memory()
    with hinted(UNPUBLISHED), author.explained(), author.keyring() as keyring:
        keys = author.signers(keyring, *_keys(author))
        with progress(author.invocation) as tell:
            published = publish(
                repository,
                releases,
                keys=keys,
                attestations=attestations,
                time_checked=author.time_checked,
                state=memory,
                progress=tell,
            )
    warn(author.invocation, published.warnings)
    return Result(
        data=_data(author, published), lines=_lines(author, published, releases)
    )


def withdraw_release(
    author: Author,
    name: ReleaseName,
    version: Version,
    *,
    reason: str,
    use: Version | None,
) -> Result:
    """Withdraw a release with the keys of the place."""
    with typed("--reason is one line of at most 500 characters"):
        Withdrawal(reason=reason, since=describe.now().replace(microsecond=0), use=use)
    with author.edit(*_keys(author)) as edit:
        changed = edit.withdraw(name, version, reason=reason, use=use)
        going_back = _going_back(edit, name, version, use)
    warn(author.invocation, going_back)
    verb = "withdrew" if changed else "unchanged: withdrawn before,"
    rows = [("reason", reason)]
    if use is not None:
        rows.append(("instead", str(use)))
    rows.append(("signed", signed_line(edit)))
    data = edit_data(edit)
    data["warnings"] += going_back
    return Result(
        data={
            "name": str(name),
            "version": str(version),
            "reason": reason,
            "use": None if use is None else str(use),
            "changed": changed,
            **data,
        },
        lines=[
            f"{verb} {name} {version}",
            *describe.table(rows),
            f"next: margo-supplychain release show {name}",
        ],
    )


def _going_back(
    edit: Edit, name: ReleaseName, version: Version, use: Version | None
) -> list[str]:
    policy = edit.policy(name)
    if use is None or use >= version or policy is None:
        return []
    command = command_to_allow(name, policy, edit.releases(name), use)
    if command is None:
        return []
    text = f"devices that confirmed {version} refuse {use}, which is older, until the "
    return [f"{text}offline key allows it: {command}"]


def _keys(author: Author) -> tuple[str, ...]:
    simple = author.is_simple()
    release = signing_keys.RELEASE_SIMPLE if simple else signing_keys.RELEASE
    return (*release, *signing_keys.ONLINE)


def _lines(
    author: Author, published: Published, releases: Sequence[Release]
) -> list[str]:
    now = describe.now()
    lines: list[str] = []
    restored = published.blobs_restored
    kept = (
        f"content restored ({describe.counted(restored, 'blob')})"
        if restored
        else "nothing changed"
    )
    for one, release in zip(published.releases, releases, strict=True):
        before = "" if one.is_new else f" before; {kept}"
        lines.append(f"published {one.name} {one.version}{before}")
        rows = [("record ", _record(one, release, now))]
        if one.layout is not None or one.attestations or one.summaries:
            text = proven_text(one.layout, one.attestations, one.summaries)
            rows.append(("proof  ", text))
        lines += describe.table(rows)
    fresh = (
        f"timestamp v{published.timestamp}, until "
        f"{describe.date(published.fresh_until)}; `repo refresh` keeps it so (a "
        "scheduled job: docs/how-to/ci.md)"
    )
    where = author.place
    if published.changed:
        where += (
            f"  ({describe.counted(published.blobs_new, 'blob')} new, "
            f"{published.blobs_there} already there)"
        )
        checked = "as a device would, from root v1 and from the previous state"
        lines += describe.table([("checked", checked)])
    return [*lines, *describe.table([("where  ", where), ("fresh  ", fresh)])]


def _record(one: PublishedRelease, release: Release, now: Any) -> str:
    text = f"{one.path}  in role {one.role} v{one.role_version}, "
    text += f"expires {describe.distance(one.expires, at=now)}"
    return text if release.closure == "complete" else f"{text}; closure partial"


def proven_text(
    layout: int | None, attestations: Sequence[AttestationReference], summaries: int
) -> str:
    """Return what a release is attested by: `layout 2: links of build, package`."""
    from margo_supplychain.authoring.attestations import describe as described

    said = described(attestations)
    if layout is not None:
        said = f"layout {layout}: {said}" if said else f"layout {layout}"
    counted = describe.counted(summaries, "summary", "summaries")
    return "; ".join([*([said] if said else []), *([counted] if summaries else [])])


def proven_data(
    layout: int | None, attestations: Sequence[AttestationReference], summaries: int
) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "layout": layout,
        "attestations": [one.to_dict() for one in attestations],
        "summaries": summaries,
    }


def _data(author: Author, published: Published) -> dict[str, Any]:
    return {
        "repository": author.place,
        "changed": published.changed,
        "releases": [
            {
                "name": str(one.name),
                "version": str(one.version),
                "artifact": str(one.artifact),
                "record": one.path,
                "isNew": one.is_new,
                "role": one.role,
                "roleVersion": one.role_version,
                "expires": one.expires,
                **proven_data(one.layout, one.attestations, one.summaries),
            }
            for one in published.releases
        ],
        "root": published.root,
        "snapshot": published.snapshot,
        "timestamp": published.timestamp,
        "freshUntil": published.fresh_until,
        "blobs": {
            "new": published.blobs_new,
            "there": published.blobs_there,
            "restored": published.blobs_restored,
        },
        "warnings": list(published.warnings),
    }
