"""A vendor whose policy demands provenance, for the tests of publishing it.

The pipeline's links are written by hand (`tests.world.provenance`), and its layout is
signed by the vendor's offline key.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.authoring.attestations import sort_out
from margo_supplychain.formats.attestation_rules import PolicyKey, SummaryRule
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.versions import Version
from margo_supplychain.signing.envelopes import sign_envelope
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.attacks.forging import entry
from tests.authoring.trust import OPEN, PUMP, key
from tests.world.provenance import Run, encode, envelope, layout
from tests.world.repository import key as world_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.publish import Published
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from tests.attacks.forging import Change
    from tests.authoring.trust import Vendor

ANY: Final = Pin.range("*", grammar="npm")
PROVEN: Final = Policy.from_toml(
    b'[policy."*/*"]\nrequire = ["signed", "provenance"]\n'
)


def signed_layout(offline: str = "offline", **changes: Any) -> bytes:
    """Return the pipeline's layout, signed by the vendor's offline key."""
    return sign_envelope(PAYLOAD, encode(layout(**changes)), [key(offline)])


def demand(
    edit: Edit,
    name: ReleaseName = PUMP,
    *,
    offline: str = "offline",
    policy: PublisherPolicy = OPEN,
) -> None:
    """Let the offline key demand that releases are made by the pipeline."""
    edit.set_policy(name, replace(policy, provenance="required"))
    edit.add_layout(name, signed_layout(offline), serves=ANY)


def make_demanding(vendor: Vendor) -> Vendor:
    """Create a repository whose policy of acme/pump-monitor demands provenance."""
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        demand(edit)
    return vendor


def run_of(release: Release) -> Run:
    """Return an honest run of the pipeline that made a release."""
    said: dict[str, Any] = {"closure": release.closure}
    if release.application_version is not None:
        said["applicationVersion"] = release.application_version
    return Run(
        str(release.version),
        release.artifact,
        str(release.name),
        kind=release.artifact_type,
        components=release.components,
        images=release.images,
        **said,
    )


def links_of(release: Release) -> list[bytes]:
    """Return the links of that run, in the order in which they were recorded."""
    return [one.data for one in run_of(release).documents().values()]


def publish_proven(
    vendor: Vendor,
    version: str,
    attestations: Sequence[bytes] | None = None,
    **options: Any,
) -> Published:
    """Publish a release with its links, or with these attestations."""
    made = vendor.release(version)
    given = links_of(made) if attestations is None else attestations
    return vendor.publish(version, attestations=given, **options)


def listed_by_hand(
    market: Vendor,
    made: Release,
    *,
    layout: int | None = 1,
    links: Sequence[bytes] | None = None,
) -> tuple[Change, dict[str, bytes], list[bytes]]:
    """Return a change that lists a release with its attestations, whatever they prove.

    Args:
        market: for the time.
        made: what is listed.
        layout: what its record names.
        links: its own by default; they come first in what is returned.
    """
    given = sort_out(
        links_of(made) if links is None else links, artifact=made.artifact.digest
    )
    record = made.record(
        market.clock.when, layout=layout, attestations=given.references
    )
    data = record.to_bytes()

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][record.path] = entry(data, record.entry().to_custom())

    blobs = [one.data for one in given.pinned]
    for part in made.parts():
        with made.open(part.descriptor) as stream:
            blobs.append(stream.read())
    return change, {record.path: data}, blobs


# --- verification summaries ----------------------------------------------------------


def allow_summaries(edit: Edit, verifier: str, name: ReleaseName = PUMP) -> None:
    """Let the offline key name whose summaries stand for the chain."""
    policy = edit.policy(name)
    if policy is None:
        raise ValueError(f"{name} has no policy")
    named = PolicyKey.of(world_key(verifier).public_key)
    rule = SummaryRule(keyids=(named.keyid,), threshold=1, max_age=timedelta(days=30))
    edit.set_policy(name, replace(policy, keys=(named,), summary=rule))


def device_of(vendor: Vendor, policy: Policy = PROVEN) -> Verifier:
    """Return a fresh device that demands provenance."""
    source = DirectorySource(vendor.trust)
    return Verifier(
        store=TrustStore.unsafe_without_memory(
            root=vendor.repository.root, publishers=None
        ),
        source=source,
        content=FixedContent([source]),
        policy=policy,
        clock=vendor.clock,
    )


def summary(
    vendor: Vendor,
    version: str,
    *signers: str,
    change: Callable[[dict[str, Any]], object] = lambda _: None,
) -> bytes:
    """Return what a verifier says of a published release, signed by it.

    Args:
        vendor: whose repository lists it.
        version: of acme/pump-monitor.
        signers: names of the verifiers' keys; `verifier` by default.
        change: what the statement says instead.
    """
    pin = Pin.exact(Version.parse(version))
    report = device_of(vendor).verify(PUMP, pin).report
    said = json.loads(report.to_vsa(verifier="https://verifier.example"))
    change(said)
    return envelope(said, *(signers or ("verifier",)))
