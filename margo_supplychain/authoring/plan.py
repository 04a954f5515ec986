"""What a root says, as somebody wants it: keys, thresholds, periods, who holds them.

Knows no file and no private key. A plan that could not be signed, or in which one key
counts twice, can't be made.

Example:
    >>> plan = RootPlan.small(publisher="acme", offline=offline, online=ci)
    >>> plan.publisher, plan.root.threshold
    ('acme', 1)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self

from margo_supplychain import threshold
from margo_supplychain.authoring.holders import NOBODY, holders_of
from margo_supplychain.errors import FormatError, KeyFormatError
from margo_supplychain.formats.names import publisher_name
from margo_supplychain.signing.public_files import NEVER_EXTRACTABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from securesystemslib.signer import Key
    from tuf.api.metadata import Root

    from margo_supplychain.authoring.holders import Holder

Profile = Literal["standard", "small", "simple"]
Kind = Literal["root", "targets", "publisher", "application", "snapshot", "timestamp"]

PROFILES: Final[tuple[Profile, ...]] = ("standard", "small", "simple")
KINDS: Final[tuple[Kind, ...]] = (
    "root",
    "targets",
    "publisher",
    "application",
    "snapshot",
    "timestamp",
)
# How long a signature of each kind of role lasts.
DEFAULT_PERIODS: Final[Mapping[Kind, timedelta]] = MappingProxyType(
    {
        "root": timedelta(days=730),
        "targets": timedelta(days=365),
        "publisher": timedelta(days=365),
        "application": timedelta(days=180),
        "snapshot": timedelta(days=14),
        "timestamp": timedelta(days=4),
    }
)
SHORTEST: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=3650)
MAX_KEYS: Final = 64  # of one role; nobody gathers more signatures by hand
TOP_ROLES: Final = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """The keys of a role and how many of them must sign.

    Args:
        keys: public keys, each one once, whatever its key id says.
        threshold: from 1 to their number.

    Raises:
        KeyFormatError: no key, a key twice, a key id that is not computed from its
            key, a scheme that nobody verifies, or a threshold that can't be met.
    """

    keys: tuple[Key, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= MAX_KEYS:
            raise KeyFormatError(
                f"a role has {len(self.keys)} keys, expected 1 to {MAX_KEYS}"
            )
        if not 1 <= self.threshold <= len(self.keys):
            raise KeyFormatError(
                f"the threshold is {self.threshold}, expected 1 to {len(self.keys)}, "
                "the number of keys"
            )
        for key in self.keys:
            if not threshold.keyid_matches(key.keyid, key):
                raise KeyFormatError(
                    f"key id {key.keyid[:12]!r} is not computed from its key"
                )
        self.materials()  # a key that can't be read is never counted
        for key in self.keys:
            _require_verifiable(key)
        named = {key.keyid: key for key in self.keys}
        repeated = threshold.repeated_material(named, self.keyids)
        if repeated is not None:
            raise KeyFormatError(
                f"key {repeated[1][:12]} is given twice in one role, also as "
                f"{repeated[0][:12]}",
                hint="signatures are counted by key, not by key id",
            )

    @classmethod
    def of(cls, root: Root, role: str) -> Self:
        """Return the keys of a top-level role, as a root says.

        Raises:
            KeyFormatError: see above; or root does not define a key that it names.
        """
        found = root.roles[role]
        unknown = [one for one in found.keyids if one not in root.keys]
        if unknown:
            raise KeyFormatError(
                f"{role} names key {unknown[0][:12]!r}, which root does not define"
            )
        keys = tuple(root.keys[keyid] for keyid in found.keyids)
        return cls(keys=keys, threshold=found.threshold)

    @property
    def keyids(self) -> tuple[str, ...]:
        """The keys' ids, in order."""
        return tuple(key.keyid for key in self.keys)

    def materials(self) -> frozenset[str]:
        """Return the material of each key."""
        return frozenset(threshold.material(key) for key in self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class RootPlan:
    """Everything that a root says, and that `Repository.create` needs to know.

    Args:
        profile: docs/explanation/trust-model.md: `standard`, `small` or `simple`.
        root, targets, snapshot, timestamp: keys of the top-level roles.
        publisher: the one publisher of the profiles small and simple; None in
            standard, where `Edit.add_publisher` adds them.
        publisher_keys: the publisher's, in the profile small.
        periods: how long signatures last, by kind of role; what is left out lasts as
            long as `DEFAULT_PERIODS` says.
        signing: how long before the expiry signing is due, by kind of role.
        custody: how a top-level role's keys must be kept: `never-extractable`.
        holders: key id → who holds the key, and how; never in key objects.

    Raises:
        KeyFormatError: an offline key is also an online one, or is not kept as
            `custody` demands.
        FormatError: a part is missing or not of this profile.
    """

    profile: Profile
    root: RoleKeys
    targets: RoleKeys
    snapshot: RoleKeys
    timestamp: RoleKeys
    publisher: str | None = None
    publisher_keys: RoleKeys | None = None
    periods: Mapping[Kind, timedelta] = field(default_factory=dict)
    signing: Mapping[Kind, timedelta] = field(default_factory=dict)
    custody: Mapping[str, str] = field(default_factory=dict)
    holders: Mapping[str, Holder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise FormatError(
                f"profile is {self.profile!r:.40}, expected one of "
                f"{', '.join(PROFILES)}"
            )
        if (self.publisher is None) != (self.profile == "standard"):
            raise FormatError(
                f"the profile {self.profile} "
                + (
                    "adds its publishers later"
                    if self.profile == "standard"
                    else "needs the publisher's name"
                )
            )
        if (self.publisher_keys is None) != (self.profile != "small"):
            raise FormatError("publisher keys belong to the profile small alone")
        if self.publisher is not None:
            publisher_name(self.publisher)
        check_periods(self.periods)
        check_periods(self.signing, what="signing period")
        check_custody(self.top, self.custody, self.holders)
        if self.profile != "simple":
            self._check_apart()

    def _check_apart(self) -> None:
        online = self.snapshot.materials() | self.timestamp.materials()
        offline = {"root": self.root, "targets": self.targets}
        if self.publisher is not None and self.publisher_keys is not None:
            offline[self.publisher] = self.publisher_keys
        for role, keys in offline.items():
            check_apart(role, keys, online)

    @property
    def top(self) -> Mapping[str, RoleKeys]:
        """The keys of each top-level role."""
        return {
            "root": self.root,
            "targets": self.targets,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }

    def period(self, kind: Kind) -> timedelta:
        """Return how long a signature of a kind of role lasts."""
        return self.periods.get(kind, DEFAULT_PERIODS[kind])

    @classmethod
    def of(
        cls,
        root: Root,
        *,
        profile: Profile = "standard",
        publisher: str | None = None,
        publisher_keys: RoleKeys | None = None,
    ) -> Self:
        """Return what a root says; the profile and the publisher stand elsewhere.

        Raises:
            KeyFormatError: its keys can't be counted.
            MetadataFormatError: one of our fields is not what we write.
        """
        # These modules know plans.
        from margo_supplychain.authoring import root_fields
        from margo_supplychain.authoring.settings import signed_periods

        return cls(
            profile=profile,
            root=RoleKeys.of(root, "root"),
            targets=RoleKeys.of(root, "targets"),
            snapshot=RoleKeys.of(root, "snapshot"),
            timestamp=RoleKeys.of(root, "timestamp"),
            publisher=publisher,
            publisher_keys=publisher_keys,
            periods=signed_periods(root),
            signing=root_fields.signed_signing(root),
            custody=root_fields.signed_custody(root),
            holders=holders_of(root),
        )

    @classmethod
    def standard(
        cls,
        *,
        root: RoleKeys,
        targets: RoleKeys,
        snapshot: RoleKeys,
        timestamp: RoleKeys,
        periods: Mapping[Kind, timedelta] | None = None,
        holders: Mapping[str, Holder] | None = None,
    ) -> Self:
        """Plan a repository of several publishers."""
        return cls(
            profile="standard",
            root=root,
            targets=targets,
            snapshot=snapshot,
            timestamp=timestamp,
            periods=periods or {},
            holders=holders or {},
        )

    @classmethod
    def small(
        cls,
        *,
        publisher: str,
        offline: Key,
        online: Key,
        periods: Mapping[Kind, timedelta] | None = None,
        holders: Mapping[str, Holder] | None = None,
    ) -> Self:
        """Plan one publisher's repository with one offline and one online key."""
        kept, used = RoleKeys(keys=(offline,)), RoleKeys(keys=(online,))
        return cls(
            profile="small",
            root=kept,
            targets=kept,
            snapshot=used,
            timestamp=used,
            publisher=publisher,
            publisher_keys=kept,
            periods=periods or {},
            holders=holders or {},
        )

    @classmethod
    def simple(
        cls,
        *,
        publisher: str,
        offline: Key,
        online: Key,
        periods: Mapping[Kind, timedelta] | None = None,
        holders: Mapping[str, Holder] | None = None,
    ) -> Self:
        """Plan a repository without delegations: `targets` signs each release."""
        kept, used = RoleKeys(keys=(offline,)), RoleKeys(keys=(online,))
        return cls(
            profile="simple",
            root=kept,
            targets=kept,
            snapshot=used,
            timestamp=used,
            publisher=publisher,
            periods=periods or {},
            holders=holders or {},
        )


def _require_verifiable(key: Key) -> None:
    """Refuse a key whose scheme is unknown or another key type's: it never counts."""
    from securesystemslib.exceptions import (
        UnverifiedSignatureError,
        VerificationError,
    )
    from securesystemslib.signer import Signature

    try:
        key.verify_signature(Signature(key.keyid, "00"), b"")
    except VerificationError as why:
        raise KeyFormatError(
            f"key {key.keyid[:12]} is of type {key.keytype!r:.40} with scheme "
            f"{key.scheme!r:.40}, which nothing here verifies"
        ) from why
    except UnverifiedSignatureError:
        return  # it was understood, and is no signature


def check_periods(periods: Mapping[Kind, timedelta], *, what: str = "period") -> None:
    """Refuse periods of unknown kinds, or beyond 1 hour to 3650 days.

    Raises:
        FormatError: for the first that is wrong.
    """
    for kind, period in periods.items():
        if kind not in KINDS:
            raise FormatError(
                f"{what} of {kind!r:.40}, expected one of {', '.join(KINDS)}"
            )
        if not SHORTEST <= period <= LONGEST:
            raise FormatError(
                f"the {what} of {kind} is {period}, expected 1 hour to 3650 days"
            )


def check_apart(role: str, keys: RoleKeys, online: Collection[str]) -> None:
    """Refuse a key of an offline role that is an online one too.

    Args:
        role: the offline role.
        keys: its keys.
        online: the material of each online key that it must not have.

    Raises:
        KeyFormatError: names the first such key.
    """
    for key in keys.keys:
        if threshold.material(key) in online:
            raise KeyFormatError(
                f"key {key.keyid[:12]} of the offline role {role} is also an online "
                "key",
                hint="whoever breaks into the server would own the root: make a second "
                "key with `key generate`",
            )


def check_custody(
    keys: Mapping[str, RoleKeys],
    custody: Mapping[str, str],
    holders: Mapping[str, Holder],
) -> None:
    """Refuse keys that are not kept as their role demands.

    Args:
        keys: of each top-level role.
        custody: role → how its keys must be kept.
        holders: what is recorded of each key.

    Raises:
        FormatError: a custody or role that is none.
        KeyFormatError: names the first such key.
    """
    for role, wanted in custody.items():
        if role not in keys or wanted != NEVER_EXTRACTABLE:
            raise FormatError(
                f"custody of {role!r:.40} is {wanted!r:.40}, expected "
                f"{NEVER_EXTRACTABLE} for one of {', '.join(keys)}"
            )
        for key in keys[role].keys:
            found = holders.get(key.keyid, NOBODY).custody
            if found != NEVER_EXTRACTABLE:
                recorded = "without custody" if found is None else f"as {found}"
                raise KeyFormatError(
                    f"key {key.keyid[:12]} of {role} is recorded {recorded}, expected "
                    f"{wanted}",
                    hint="make the key inside a token (`key generate --uri pkcs11:…`), "
                    "or record the custody of one that is there (`key import`)",
                )
