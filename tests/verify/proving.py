"""A vendor whose releases are proven, for tests of step 4 from the device's side."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.formats.attestation_rules import (
    AttestationRule,
    PolicyKey,
    SummaryRule,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule
from margo_supplychain.formats.release_entry import AttestationPin
from tests.world import World
from tests.world.provenance import ENVELOPE, Document, Run, envelope, layout
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.verify.results import VerifiedRelease
    from tests.world import Device

NAME: Final = "acme/pump-monitor"
PUMP: Final = ReleaseName.parse(NAME)
ANY: Final = Pin.range("*", grammar="npm")
SLSA: Final = "https://slsa.dev/provenance/v1"
PROVEN: Final = b'[policy."*/*"]\nrequire = ["signed", "provenance"]\n'
SUMMARISED: Final = PROVEN + b'provenance = "summary"\n'
MONTH: Final = timedelta(days=30)


def signer(name: str) -> PolicyKey:
    return PolicyKey.of(key(name).public_key)


def demand(type_: str = SLSA, *names: str, **changes: Any) -> AttestationRule:
    """Return a rule whose statements these keys may sign; `attester` by default."""
    keyids = tuple(signer(one).keyid for one in names or ("attester",))
    return AttestationRule(type=type_, keyids=keyids, **changes)


def takes(*names: str, threshold: int = 1, max_age: timedelta = MONTH) -> SummaryRule:
    """Return a rule by which these keys' summaries count."""
    keyids = tuple(signer(one).keyid for one in names)
    return SummaryRule(keyids=keyids, threshold=threshold, max_age=max_age)


class Yard:
    """A repository with layout 1 for every version, and a device that asks it."""

    def __init__(self, where: Path, *, profile: str = "standard") -> None:
        self.world = World(profile=profile)
        self.world.add_application(NAME)
        self.device: Device = self.world.device(where / "device")
        if profile == "simple":
            return
        self.layout(1, envelope(layout(), "acme"), range=ANY)
        self.policy(provenance="required")

    def policy(self, **changes: Any) -> None:
        """Change the publisher's policy, with the offline key."""
        self.world.set_policy(NAME, replace(self.world.policies[PUMP], **changes))

    def layout(self, number: int, data: bytes, **rule: Any) -> None:
        """List a layout, and say what it serves."""
        self.world.add_target("acme", PUMP.layout_path(number), data)
        digest = Descriptor.of(data, ENVELOPE).digest
        made = LayoutRule(number=number, digest=digest, **rule)
        others = [
            one for one in self.world.policies[PUMP].layouts if one.number != number
        ]
        self.policy(layouts=(*others, made))

    def run(self, version: str) -> Run:
        return Run(version, self.world.artifact(f"{NAME} {version}".encode()))

    def publish(
        self,
        run: Run,
        documents: Iterable[Document] = (),
        *,
        summaries: Iterable[bytes] = (),
        **record: Any,
    ) -> Digest:
        """List a release with its links and these documents; return the record's."""
        named = (*run.documents().values(), *documents)
        made = replace(
            self.world.record(PUMP, run.version, run.artifact),
            **{
                "layout": 1,
                "attestations": tuple(one.reference() for one in named),
                **record,
            },
        )
        pins = []
        for data in (*(one.data for one in named), *summaries):
            what = self.world.add_blob(data, ENVELOPE)
            pins.append(AttestationPin(what.digest, what.size))
        entry = replace(made.entry(), summaries=tuple(pins[len(named) :]))
        role = self.world.deciding_role(PUMP)
        self.world.list_record(role, made, entry=entry)
        self.serve()
        return Descriptor.of(made.to_bytes(), ENVELOPE).digest

    def serve(self) -> None:
        """Let the device see what was signed."""
        self.device.source.files = self.world.publish()

    def verify(self, summary: bytes | None = None) -> VerifiedRelease:
        return self.device.verifier.verify(PUMP, ANY, summary=summary)

    def facts(self, summary: bytes | None = None) -> dict[str, Any]:
        """Return what step 4 of a verification found."""
        return dict(self.verify(summary).report.facts(4))
