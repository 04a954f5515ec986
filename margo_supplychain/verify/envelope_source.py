"""Where a device finds envelopes: its own copies, the trust repository, the content.

Envelopes are named by digest alone, so it does not matter who gives them; a source with
other bytes is passed over. Who gave nothing is an error only when nobody gave anything
(`artifact.read_manifest`): other bytes are a no, silence is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from margo_supplychain.formats.digests import Digest
from margo_supplychain.verify.artifact import read_manifest
from margo_supplychain.verify.trust_store import MAX_ATTESTATIONS_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.limits import Budget


@final
class EnvelopeSource:
    """Reads the envelopes of one release.

    Args:
        sources: whom to ask, in this order.
        copies: returns the device's own copy, unverified.

    Attributes:
        fresh: what was fetched, as far as it may be kept.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        copies: Callable[[Digest], bytes | None],
        budget: Budget,
    ) -> None:
        self._sources = sources
        self._copies = copies
        self._budget = budget
        self._size = 0
        self.fresh: dict[Digest, bytes] = {}

    def read(self, what: Descriptor) -> bytes:
        """Return the bytes of an envelope.

        Raises:
            DigestMismatchError, LengthMismatchError: every source has other bytes.
            FetchError: no source has it.
        """
        # Named by a hex value of another length, and of another algorithm: no copy.
        if what.digest.algorithm == "sha256":
            copy = self._copies(what.digest)
            if copy is not None and Digest.of(copy) == what.digest:
                return copy
        data = read_manifest(what, self._sources, self._budget, kind="attestation")
        self._size += len(data)
        if what.digest.algorithm == "sha256" and self._size <= MAX_ATTESTATIONS_SIZE:
            self.fresh[what.digest] = data
        return data
