"""One release whose provenance is in question, and the envelopes that speak for it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple, final

from margo_supplychain.errors import BudgetError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.release_parts import ENVELOPE
from margo_supplychain.storage.receive import check_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.limits import Limits
    from margo_supplychain.verify.policy import ProvenanceDemand
    from margo_supplychain.verify.refresh import Walk


@final
class Envelopes:
    """Reads envelopes of one release, by digest, within the device's limits.

    Args:
        read: returns an envelope's bytes, from wherever they can be had.
        label: what the release is called in errors.
    """

    def __init__(
        self, read: Callable[[Descriptor], bytes], limits: Limits, label: str
    ) -> None:
        self._read = read
        self._limits = limits
        self._label = label
        self._spent = 0

    def get(self, digest: Digest, size: int) -> bytes:
        """Return exactly these bytes.

        Raises:
            BudgetError: it, or all of the release together, are too large.
            DigestMismatchError, LengthMismatchError: other bytes.
            FetchError: nobody has it.
        """
        # check 4.2: a signed size does not lift the device's limit
        if size > self._limits.attestation:
            raise BudgetError(
                f"attestation {digest.short} of {self._label} has {size} bytes, more "
                f"than the limit of {self._limits.attestation}"
            )
        self._spent += size
        # check 4.3: nor does their number
        if self._spent > self._limits.attestations:
            raise BudgetError(
                f"the attestations of {self._label} have more than the limit of "
                f"{self._limits.attestations} bytes in all"
            )
        what = Descriptor(media_type=ENVELOPE, digest=digest, size=size)
        data = self._read(what)
        # check 4.4: judged is what the record names, whoever read it
        check_stream(what, io.BytesIO(data), subject=f"attestation {digest.short}")
        return data


class Case(NamedTuple):
    """A release in question: all of it verified but for the envelopes.

    Args:
        demand: the device's, beyond the publisher's.
        entry: of the release in the deciding role's list.
        summary: an envelope that was handed to the device; None for none.
    """

    walk: Walk
    found: Chain
    name: ReleaseName
    policy: PublisherPolicy
    record: ReleaseRecord
    record_digest: Digest
    entry: ReleaseEntry | None
    demand: ProvenanceDemand
    envelopes: Envelopes
    limits: Limits
    summary: bytes | None

    @property
    def label(self) -> str:
        """What the release is called in errors."""
        return f"{self.name} {self.record.version}"

    @property
    def wants_chain(self) -> bool:
        """Whether somebody demands a layout and its links."""
        return self.policy.provenance == "required" or self.demand.required
