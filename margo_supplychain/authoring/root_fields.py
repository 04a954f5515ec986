"""What root signs beside keys and thresholds: periods, custody and holders of keys.

    x-periods   how long signatures last, by kind of role, where not the default
    x-signing   how long before the expiry signing is due, by kind of role
    x-custody   how a top-level role's keys must be kept
    x-holders   who holds the top-level roles' keys (`holders`)

Whoever acts for a repository finds them where nobody can change them alone. Devices
ignore all four.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from margo_supplychain.authoring.holders import HOLDERS, holders_field
from margo_supplychain.authoring.plan import TOP_ROLES, check_periods
from margo_supplychain.authoring.settings import (
    PERIODS,
    format_period,
    parse_period,
    periods_field,
)
from margo_supplychain.formats.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.plan import Kind, RootPlan

SIGNING: Final = "x-signing"
"""A field of root: how long before the expiry signing is due, by kind of role."""
CUSTODY: Final = "x-custody"
"""A field of root: how the keys of a top-level role must be kept."""
OURS: Final = (PERIODS, SIGNING, CUSTODY, HOLDERS)


def root_fields(plan: RootPlan) -> dict[str, Any]:
    """Return the fields of a root that sign what a plan says; none for the default."""
    keyids = {keyid for role in TOP_ROLES for keyid in plan.top[role].keyids}
    fields = {**periods_field(plan.periods), **holders_field(plan.holders, keyids)}
    if plan.signing:
        fields[SIGNING] = {
            kind: format_period(one) for kind, one in sorted(plan.signing.items())
        }
    if plan.custody:
        fields[CUSTODY] = dict(sorted(plan.custody.items()))
    return fields


def signed_signing(root: Root) -> Mapping[Kind, timedelta]:
    """Return how long before the expiry signing is due, as a verified root says.

    Raises:
        MetadataFormatError: the field is there, and not what `root_fields` gives.
    """
    value = root.unrecognized_fields.get(SIGNING)
    if value is None:
        return {}
    fields = Fields({SIGNING: value}, what="root").object(SIGNING)
    found = {
        cast("Kind", kind): fields.parsed(kind, parse_period) for kind in fields.value
    }
    check_periods(found, what="signing period")
    return found


def signed_custody(root: Root) -> Mapping[str, str]:
    """Return how the keys of top-level roles must be kept, as a verified root says.

    Raises:
        MetadataFormatError: the field is there, and no object of strings.
    """
    value = root.unrecognized_fields.get(CUSTODY)
    if value is None:
        return {}
    fields = Fields({CUSTODY: value}, what="root").object(CUSTODY)
    return {role: fields.text(role) for role in fields.value}
