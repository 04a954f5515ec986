"""Which role is which: kind, delegator and the application behind a role's name.

Example:
    >>> delegator_of("acme.pump-monitor"), kind_of("acme.pump-monitor")
    ('acme', 'application')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain import threshold as counting
from margo_supplychain.errors import KeyFormatError
from margo_supplychain.formats.names import ReleaseName, publisher_name
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    from securesystemslib.signer import Key, Signature
    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.plan import Kind
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.threshold import ThresholdStatus

    TopLevel = Literal["root", "targets", "snapshot", "timestamp"]


class RoleSigners(NamedTuple):
    """Who may sign a role, as its delegator says.

    Args:
        role: the role's name.
        keys: by key id.
        threshold: how many of them must.
    """

    role: str
    keys: Mapping[str, Key]
    threshold: int

    def status(self, file: RoleFile[Any]) -> ThresholdStatus:
        """Return which of the keys validly signed a file, and which are missing.

        Raises:
            ThresholdError: the threshold is below 1, or there are too many signatures.
        """
        return self.counted(file.payload, file.metadata.signatures)

    def counted(
        self, payload: bytes, signatures: Mapping[str, Signature]
    ) -> ThresholdStatus:
        """Return what `status` does, of signatures that are in no file, or in another.

        Raises:
            ThresholdError: as `status`.
        """
        return counting.count(
            payload, signatures, self.keys, self.keys, self.threshold, role=self.role
        )

    def materials(self) -> frozenset[str]:
        """Return the material of each key; one that can't be read counts nowhere."""
        found = set()
        for key in self.keys.values():
            try:
                found.add(counting.material(key))
            except KeyFormatError:
                continue
        return frozenset(found)


def kind_of(role: str) -> Kind:
    """Return a role's kind by its name."""
    if role in TOP_LEVEL:
        return _TOP_LEVEL_KINDS[role]
    return "application" if "." in role else "publisher"


_TOP_LEVEL_KINDS: Mapping[str, TopLevel] = {
    "root": "root",
    "targets": "targets",
    "snapshot": "snapshot",
    "timestamp": "timestamp",
}


def delegator_of(role: str) -> str:
    """Return the role that delegates to `role`; `root` for the top-level ones."""
    if role in TOP_LEVEL:
        return "root"
    # A publisher's name holds no dot, so the first one ends it.
    return role.partition(".")[0] if "." in role else "targets"


def application_of(role: str) -> ReleaseName:
    """Return the application whose releases a role signs.

    Raises:
        FormatError: it is not the role of an application.
    """
    publisher, _, name = role.partition(".")
    return ReleaseName(publisher, name)


def check_role(role: str) -> str:
    """Return `role` if it is a role's name that this package uses.

    Raises:
        FormatError: if not.
    """
    if role in TOP_LEVEL:
        return role
    if "." in role:
        application_of(role)
        return role
    return publisher_name(role)


def materials_of(root: Root, role: str) -> frozenset[str]:
    """Return the material of each key of a top-level role that `root` defines.

    Raises:
        KeyFormatError: one of them can't be read.
    """
    return frozenset(
        counting.material(root.keys[keyid])
        for keyid in root.roles[role].keyids
        if keyid in root.keys
    )


def signers_of(delegator: Root | Targets, role: str) -> RoleSigners | None:
    """Return who may sign `role`; None if `delegator` does not delegate to it.

    Raises:
        KeyFormatError: the role names a key that the delegator does not define.
    """
    from tuf.api.metadata import Root

    if isinstance(delegator, Root):
        found, keys = delegator.roles.get(role), delegator.keys
    elif delegator.delegations is None or delegator.delegations.roles is None:
        return None
    else:
        found = delegator.delegations.roles.get(role)
        keys = delegator.delegations.keys
    if found is None:
        return None
    try:
        named = {keyid: keys[keyid] for keyid in found.keyids}
    except KeyError as why:
        raise KeyFormatError(f"{role} has no key {why.args[0][:12]}") from why
    return RoleSigners(role, named, found.threshold)
