"""How `checks` looks at what the releases of one application are attested by.

Every envelope must be there as it is signed, and a release must prove what is demanded
of it today. What a publisher demands since, or whom he revoked since, bars older
releases as a minimum version does: that is his will, and is counted. Only where no
release proves enough is it a problem, for then devices have nothing to take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.attested import envelope_problems, named_envelopes
from margo_supplychain.authoring.rehearsal import prove_record
from margo_supplychain.errors import (
    AttestationError,
    ProvenanceError,
    SupplyChainError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.transport.protocols import Shelf
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.resolve import Candidate

# What a later demand of the offline key makes of a release that was good before.
_SINCE: Final = frozenset({"no-layout", "missing-attestation", "revoked"})


@final
class ProofLook:
    """One application's releases, newest first.

    Args:
        walk: trusted metadata.
        found: the chain of roles that speak for it.
        policy: its publisher policy.
        shelf: holds the envelopes.

    Attributes:
        envelopes: how many were named so far.
        barred: how many releases were good once, and are not any more.
    """

    def __init__(
        self, walk: Walk, found: Chain, policy: PublisherPolicy, shelf: Shelf
    ) -> None:
        self._walk = walk
        self._found = found
        self._policy = policy
        self._shelf = shelf
        self._has_proven = False
        self.envelopes = 0
        self.barred = 0

    def problems(
        self, record: ReleaseRecord, one: Candidate
    ) -> Iterator[SupplyChainError]:
        """Yield what is wrong with a release, the next older one."""
        named = named_envelopes(record, one.entry)
        self.envelopes += len(named)
        missing = list(envelope_problems(self._shelf, named))
        yield from missing
        if missing:
            return
        try:
            prove_record(
                self._walk, self._found, self._policy, self._shelf, one, record
            )
        except (AttestationError, ProvenanceError) as why:
            if self._has_proven and why.reason in _SINCE:
                self.barred += 1
            else:
                yield why
        except SupplyChainError as why:
            yield why
        else:
            self._has_proven = True
