"""The device's half of margo-supplychain: may exactly this software run here?

Only what a device agent needs is exported, and nothing is imported before it is used:
`import margo_supplychain` costs next to nothing. Vendors and operators use the command
line, or `margo_supplychain.authoring` and `margo_supplychain.signing`.

Example:
    >>> from margo_supplychain import Pin, ReleaseName
    >>> str(ReleaseName.parse("acme/pump-monitor")), str(Pin.range("^1", grammar="npm"))
    ('acme/pump-monitor', '^1')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.errors import (
        FormatError,
        IncompleteError,
        InconclusiveError,
        RefusedError,
        SignerError,
        SupplyChainError,
        VerificationError,
    )
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.reports import Report, Violation
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.transport.mirrors import (
        MirroredContent,
        MirrorMap,
        open_mirrored_source,
    )
    from margo_supplychain.transport.network import Network, RegistryAccess
    from margo_supplychain.transport.opening import FixedContent, open_source
    from margo_supplychain.verify.clock import Clock, Freshness, SystemClock
    from margo_supplychain.verify.limits import Control, Limits
    from margo_supplychain.verify.policy import Facts, Policy, Rule
    from margo_supplychain.verify.results import VerifiedContent, VerifiedRelease
    from margo_supplychain.verify.trust_store import StoreStatus, TrustStore
    from margo_supplychain.verify.verifier import Verifier

__all__ = [
    "Clock",
    "Control",
    "Descriptor",
    "Digest",
    "Facts",
    "FixedContent",
    "FormatError",
    "Freshness",
    "IncompleteError",
    "InconclusiveError",
    "Limits",
    "MirrorMap",
    "MirroredContent",
    "Network",
    "Pin",
    "Policy",
    "RefusedError",
    "RegistryAccess",
    "ReleaseName",
    "Report",
    "Rule",
    "SignerError",
    "StoreStatus",
    "SupplyChainError",
    "SystemClock",
    "TrustStore",
    "VerificationError",
    "VerifiedContent",
    "VerifiedRelease",
    "Verifier",
    "Version",
    "Violation",
    "open_mirrored_source",
    "open_source",
]

__getattr__ = exporter(
    __name__,
    {
        "errors": (
            "FormatError",
            "IncompleteError",
            "InconclusiveError",
            "RefusedError",
            "SignerError",
            "SupplyChainError",
            "VerificationError",
        ),
        "formats.digests": ("Descriptor", "Digest"),
        "formats.names": ("ReleaseName",),
        "formats.pins": ("Pin",),
        "formats.reports": ("Report", "Violation"),
        "formats.versions": ("Version",),
        "transport.mirrors": ("MirrorMap", "MirroredContent", "open_mirrored_source"),
        "transport.network": ("Network", "RegistryAccess"),
        "transport.opening": ("FixedContent", "open_source"),
        "verify.clock": ("Clock", "Freshness", "SystemClock"),
        "verify.limits": ("Control", "Limits"),
        "verify.policy": ("Facts", "Policy", "Rule"),
        "verify.results": ("VerifiedContent", "VerifiedRelease"),
        "verify.trust_store": ("StoreStatus", "TrustStore"),
        "verify.verifier": ("Verifier",),
    },
)
