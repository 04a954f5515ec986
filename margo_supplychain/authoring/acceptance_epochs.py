"""Under which policy an application's list was taken: what a higher epoch is above.

A list drops releases only with a higher epoch, which the publisher's role brings along.
Whoever may write to an inbox may hand in that role before, without the list that
belongs to it; so the epoch that counts is the one under which the list that stands was
published, and not the one that stands a moment before the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    VerificationError,
)
from margo_supplychain.formats.publisher_policy import FORMAT, PublisherPolicy
from margo_supplychain.formats.tuf_metadata import parse_targets

if TYPE_CHECKING:
    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.formats.names import ReleaseName


def epoch_of_list(before: Prospect, name: ReleaseName) -> int | None:
    """Return the epoch under which the list that stands was published.

    None where that is not known any more, or where it is taken in this very run: then
    the policy that stands decides.

    Args:
        before: the repository before the next list.
        name: the application.

    Raises:
        FetchError: nobody answers who could know.
    """
    entry = before.stands_at(name.role)
    if entry is None:
        return None
    # Of what is taken in this run, no snapshot tells.
    beside = before.past.beside(name.role, entry)
    publisher = None if beside is None else beside.get(f"{name.publisher}.json")
    if publisher is None:
        return None
    data = before.file(name.publisher, publisher.version)
    if data is None or meta_of(publisher.version, data) != publisher:
        return None
    path = name.policy_path(FORMAT)
    try:
        said = parse_targets(data, role=name.publisher, limit=LIMITS.targets).signed
        file = said.targets.get(path)
        if file is None:
            return None
        policy = before.tolerant.target(path, file, limit=LIMITS.policy)
        return PublisherPolicy.parse(policy).epoch
    except FetchError as why:
        if not why.missing:
            raise
        return None
    except (FormatError, VerificationError):
        return None
