"""Does the application description say what the signed record says?

Pure: the bytes of `margo.yaml` and a verified record in, an error or nothing out. A
package that was adopted as it was may break Margo's rules; what could not be read of it
must then be outside of what the record signs, and the record must call itself partial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import DeploymentError
from margo_supplychain.formats.application import inspect_description

if TYPE_CHECKING:
    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.record import ReleaseRecord


def check_description(record: ReleaseRecord, data: bytes) -> None:
    """Compare a package's description with its record.

    Args:
        record: verified.
        data: exactly the bytes of `margo.yaml` that the package's manifest names.

    Raises:
        DeploymentError: they disagree, or the description can't be read.
    """
    found, problems = inspect_description(data)
    partial = record.closure == "partial"
    if found is None:
        # check 6.24: adopted as it was, and nothing that it deploys is claimed
        if record.application_version is not None or record.components or not partial:
            raise DeploymentError(
                f"margo.yaml can't be read: {problems[0] if problems else 'empty'}",
                part="margo.yaml",
            )
        return
    # check 6.25: it is this application
    _compare("id", found.id, record.name.name)
    # check 6.26: in this version
    _compare("metadata.version", found.version_text, record.application_version)
    _compare_profiles(record, found)
    signed = {one.profile for one in record.components}
    for profile in found.unread:
        # check 6.27: nothing of a signed profile was left unread, and what is unread
        # elsewhere is not called complete
        if not partial or profile in signed:
            raise DeploymentError(
                f"margo.yaml has parts of profile {profile or 'without an id'} that "
                "can't be read, so the signed record can't cover them",
                part=profile or "deploymentProfiles",
            )


def _compare_profiles(record: ReleaseRecord, found: ApplicationDescription) -> None:
    signed: dict[str, list[tuple[str, str, str]]] = {}
    types: dict[str, str] = {}
    for one in record.components:
        types[one.profile] = one.profile_type
        group = signed.setdefault(one.profile, [])
        group.append((one.name, one.repository, one.revision))
    described = {profile.id: profile for profile in found.profiles}
    for name, components in signed.items():
        profile = described.get(name)
        # check 6.28: the profile is described, and of the type that is signed
        if profile is None or types[name] not in (profile.type, profile.written_type):
            raise DeploymentError(
                f"the signed record has the profile {name} of type {types[name]}, "
                f"margo.yaml {profile.written_type if profile else 'has it not'}",
                part=name,
            )
        # check 6.22: the description deploys what is signed, and nothing else
        _compare(
            f"components of {name}",
            sorted(
                (one.name, one.repository or "", one.revision or "")
                for one in profile.components
            ),
            sorted(components),
        )
    missing = sorted(described.keys() - signed.keys())
    # check 6.23: a profile that nobody signed is no part of a complete release
    if missing and record.closure == "complete":
        raise DeploymentError(
            f"margo.yaml has the profile {missing[0]}, the signed record has not, and "
            "calls itself complete",
            part=missing[0],
        )


def _compare(part: str, found: object, signed: object) -> None:
    if found != signed:
        raise DeploymentError(
            f"margo.yaml says {part} {found!r:.160}, the signed record {signed!r:.160}",
            part=part,
        )
