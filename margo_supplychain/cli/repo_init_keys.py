"""The keys that `repo init` is given, and the root that they make.

Either all keys are named and those at hand sign the first root, or its holders have
signed it apart (`--signed-root`), and it says whose keys are which.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

import click

from margo_supplychain.cli.role_keys import refuse_same
from margo_supplychain.cli.root_files import judge, read_root
from margo_supplychain.cli.signing_keys import open_key
from margo_supplychain.errors import IncompleteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from securesystemslib.signer import Key, Signer

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.plan import Profile, RootPlan
    from margo_supplychain.authoring.plan_changes import PlannedKey
    from margo_supplychain.authoring.proposals import SignedRoot
    from margo_supplychain.signing.keyring import Keyring

_OPTIONS: Final = {
    "standard": ("root-key", "targets-key", "publisher-key", "online-key"),
    "small": ("offline-key", "online-key"),
    "simple": ("offline-key", "online-key"),
}
_SINGLE: Final = ("offline-key", "online-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenKeys:
    """The keys of the new repository, as they were given.

    Args:
        typed: option → key files or URIs.

    Attributes:
        keys: option → public keys.
        signers: the private ones at hand.
        by_name: each key as it was typed, with what is recorded of it.
    """

    typed: Mapping[str, tuple[str, ...]]
    keys: dict[str, tuple[Key, ...]] = field(default_factory=dict)
    signers: list[Signer] = field(default_factory=list)
    by_name: dict[str, PlannedKey] = field(default_factory=dict)

    def open(self, keyring: Keyring) -> None:
        """Open those that are at hand, and look at the others.

        Raises:
            click.UsageError: an option has one key under two names.
            FormatError: no such file, or no key.
            SignerError: a private key does not open.
        """
        from margo_supplychain.authoring.plan_changes import PlannedKey

        for option, uris in self.typed.items():
            found = {}
            for uri in uris:
                record, signer = open_key(keyring, uri)
                found[uri] = record.key
                self.by_name[uri] = PlannedKey.of(record)
                if signer is not None and signer not in self.signers:
                    self.signers.append(signer)
            refuse_same(found)
            self.keys[option] = tuple(found.values())

    def label(self, keyid: str, role: str) -> str:
        """Return what a key is called in the result."""
        for option, keys in self.keys.items():
            if keyid in {key.keyid for key in keys}:
                return option.removesuffix("-key")
        return role  # signed apart: it was given nowhere here

    def holders(self, *options: str) -> dict[str, Holder]:
        """Return what is recorded of the keys of some options, or of all."""
        uris = [
            uri
            for option, typed in self.typed.items()
            if not options or option in options
            for uri in typed
        ]
        return {self.by_name[uri].key.keyid: self.by_name[uri].holder for uri in uris}


def typed_keys(
    profile: str, options: Mapping[str, Any], *, is_signed: bool
) -> dict[str, tuple[str, ...]]:
    """Return the keys of each option that a profile wants.

    Args:
        profile: of the repository.
        options: all that were typed.
        is_signed: whether root was signed apart, and says the rest.

    Raises:
        click.UsageError: one is missing, or belongs to another profile.
    """
    given = {
        name.replace("_", "-"): value
        for name, value in options.items()
        if name.endswith("_key")
    }
    wanted = _OPTIONS[profile]
    if is_signed and profile == "standard":
        for name in ("root_key", "root_threshold", "targets_threshold"):
            if options[name]:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is said by --signed-root"
                )
        wanted = tuple(one for one in wanted if one != "root-key")
    for name, value in options.items():
        option = name.replace("_", "-")
        belongs = option.replace("-threshold", "-key") in wanted
        if value and not belongs:
            raise click.UsageError(f"--{option} is not of the profile {profile}")
    for name in wanted:
        if not given[name]:
            raise click.UsageError(f"--{name} is missing for the profile {profile}")
        if name in _SINGLE and len(given[name]) > 1:
            raise click.UsageError(f"--{name} may be given once")
    return {name: given[name] for name in wanted}


def name_owners(given: Sequence[str], keys: GivenKeys, *, is_signed: bool) -> None:
    """Note who holds keys, as it will be signed beside them.

    Raises:
        click.UsageError: not KEY=NAME, or the signed root says that.
    """
    for each in given:
        uri, _, owner = each.rpartition("=")
        planned = keys.by_name.get(uri)
        if planned is None or not owner:
            raise click.UsageError(
                f"--owner {each!r:.80} is not KEY=NAME with one of the keys given here"
            )
        if is_signed and uri not in keys.typed.get("publisher-key", ()):
            raise click.UsageError(f"--owner {each!r:.80}: --signed-root says that")
        named = replace(planned.holder, name=owner)
        for other, one in keys.by_name.items():
            if one.key.keyid == planned.key.keyid:
                keys.by_name[other] = one._replace(holder=named)


def read_first_root(path: Path) -> SignedRoot:
    """Return a first root that its holders have signed.

    Raises:
        FormatError: no such file, or no root.
        IncompleteError: who has not signed yet.
    """
    proposal = judge(path, read_root(path), None)
    try:
        return proposal.finalize()
    except IncompleteError as why:
        why.hint = (
            f"hand {path} to them: margo-supplychain root sign {path} --key …; nothing "
            "was changed"
        )
        raise


def signed_plan(
    profile: str, publisher: str, keys: GivenKeys, root: SignedRoot
) -> RootPlan:
    """Return the plan that a signed root says, and whose publisher it is for."""
    from margo_supplychain.authoring.plan import RoleKeys, RootPlan

    if profile == "standard":
        return RootPlan.of(root.root.signed)
    offline = RoleKeys(keys=keys.keys["offline-key"])
    return RootPlan.of(
        root.root.signed,
        profile=cast("Profile", profile),
        publisher=publisher,
        publisher_keys=offline if profile == "small" else None,
    )


def plan_of(
    profile: str,
    publisher: str,
    keys: GivenKeys,
    thresholds: Mapping[str, int],
) -> RootPlan:
    """Return the plan of a repository whose root is signed here."""
    from margo_supplychain.authoring.plan import RoleKeys, RootPlan

    holders = keys.holders()
    online = keys.keys["online-key"]
    if profile == "standard":
        return RootPlan.standard(
            root=RoleKeys(keys=keys.keys["root-key"], threshold=thresholds["root"]),
            targets=RoleKeys(
                keys=keys.keys["targets-key"], threshold=thresholds["targets"]
            ),
            snapshot=RoleKeys(keys=online),
            timestamp=RoleKeys(keys=online),
            holders=holders,
        )
    make = RootPlan.small if profile == "small" else RootPlan.simple
    return make(
        publisher=publisher,
        offline=keys.keys["offline-key"][0],
        online=online[0],
        holders=holders,
    )
