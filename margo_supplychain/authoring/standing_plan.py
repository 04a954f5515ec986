"""What a repository's newest root says, as a plan that can be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.settings import verified_settings

if TYPE_CHECKING:
    from tuf.api.metadata import Root

    from margo_supplychain.authoring.settings import Settings
    from margo_supplychain.authoring.state import State


def standing_plan(root: Root, begun: State | None, settings: Settings) -> RootPlan:
    """Return the plan of a root, with the profile that its repository shows.

    Args:
        root: verified.
        begun: what stands below it; None where that does not verify.
        settings: as they are written down.
    """
    if begun is None:
        return RootPlan.of(root)
    verified = verified_settings(settings, begun)
    if verified.publisher is None:
        return RootPlan.of(root)
    return RootPlan.of(
        root,
        profile=verified.profile,
        publisher=verified.publisher,
        publisher_keys=_publisher_keys(begun, verified.publisher),
    )


def _publisher_keys(begun: State, publisher: str) -> RoleKeys | None:
    """Return the keys of the one publisher; None where `targets` signs everything."""
    found = signers_of(begun.trusted("targets").signed, publisher)
    if found is None:
        return None
    return RoleKeys(keys=tuple(found.keys.values()), threshold=found.threshold)
