"""`release show`: what an application's role lists, and one record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.cli import describe
from margo_supplychain.cli.app_policy import require_policy
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.release_describe import images_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.cli.author import Author
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.record import AttestationReference, ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry, Withdrawal
    from margo_supplychain.formats.versions import Version

_MANY: Final = 20  # lines; JSON has all


def show_releases(author: Author, name: ReleaseName) -> Result:
    """Show the list of releases, newest first."""
    with author.look() as edit:
        require_policy(edit, name)
        releases = dict(edit.releases(name))
    barred = {
        entry.artifact: version
        for version, entry in releases.items()
        if entry.withdrawn is not None
    }
    rows = [
        (str(version), entry.artifact.short, state_of(entry, barred))
        for version, entry in releases.items()
    ]
    lines = [
        f"{name}: {describe.counted(len(rows), 'release')}",
        *describe.table(rows[:_MANY]),
    ]
    if len(rows) > _MANY:
        lines.append(f"  and {len(rows) - _MANY} more: --format json lists them")
    if releases:
        newest = next(iter(releases))
        lines.append(f"next: margo-supplychain release show {name} {newest}")
    return Result(
        data={
            "name": str(name),
            "releases": [_entry(one, entry) for one, entry in releases.items()],
        },
        lines=lines,
    )


def show_release(author: Author, name: ReleaseName, version: Version) -> Result:
    """Show one release: its record, and what the list says of it."""
    with author.look() as edit:
        record = edit.record(name, version)
        releases = dict(edit.releases(name))
    entry = releases[version]
    lines = [
        f"{name} {version}",
        *describe.table(_rows(record, entry)),
        f"  pin: {version}@{entry.artifact}",
    ]
    data = _entry(version, entry) | {"name": str(name), "record": record.to_dict()}
    return Result(data=data, lines=lines)


def _rows(record: ReleaseRecord, entry: ReleaseEntry) -> list[tuple[str, str]]:
    digest = record.artifact.digest
    age = describe.distance(record.created, at=describe.now())
    rows = [
        ("package", f"{digest.algorithm}:{digest.short}"),
        ("created", f"{describe.moment(record.created)}, {age}"),
    ]
    if record.application_version not in (None, str(record.version)):
        rows.append(("margo.yaml", f"calls it {record.application_version}"))
    rows += [
        ("component", f"{one.name} ({one.profile_type})  {one.content.digest.short}")
        for one in record.components[:_MANY]
    ]
    rows.append(("images", images_text(record.images, record.closure)))
    if record.layout is not None:
        rows.append(("layout", f"{record.layout}, of those that the publisher lists"))
    rows += [("attested", _attested(one)) for one in record.attestations[:_MANY]]
    if len(record.attestations) > _MANY:
        rows.append(("attested", f"and {len(record.attestations) - _MANY} more"))
    rows += [("summary", one.digest.short) for one in entry.summaries]
    rows += [("location", one) for one in record.locations]
    if entry.withdrawn is not None:
        rows.append(("state", _state(entry.withdrawn)))
    return rows


def _attested(one: AttestationReference) -> str:
    text = one.type if one.step is None else f"step {one.step}"
    return f"{text}  {one.digest.short}, {describe.size(one.size)}"


def state_of(entry: ReleaseEntry, barred: Mapping[Digest, Version]) -> str:
    """Return what stands against a release; `barred` are the withdrawn artifacts."""
    version = barred.get(entry.artifact)
    if entry.withdrawn is None and version is not None:
        # A withdrawal is about bytes, whatever they are called.
        return f"refused: the same bytes as {version}, which is withdrawn"
    return _state(entry.withdrawn)


def _state(withdrawn: Withdrawal | None) -> str:
    if withdrawn is None:
        return ""
    text = f"withdrawn {describe.date(withdrawn.since)}: {withdrawn.reason}"
    return text if withdrawn.use is None else f"{text}; use {withdrawn.use}"


def _entry(version: Version, entry: ReleaseEntry) -> dict[str, Any]:
    withdrawn = entry.withdrawn
    return {
        "version": str(version),
        "artifact": str(entry.artifact),
        "profiles": list(entry.profiles),
        "summaries": [
            {"digest": str(one.digest), "size": one.size} for one in entry.summaries
        ],
        "withdrawn": None
        if withdrawn is None
        else {
            "reason": withdrawn.reason,
            "since": withdrawn.since,
            "use": None if withdrawn.use is None else str(withdrawn.use),
        },
    }
