"""The publisher policy of an application is taken away, damaged or not met."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    AttestationError,
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    MalformedError,
    NoMatchingVersionError,
    PolicyError,
    ProvenanceError,
    TooLargeError,
)
from margo_supplychain.formats.attestation_rules import AttestationRule, PolicyKey
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from tests.attacks.standing import refused
from tests.world import World
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Device

PUMP = ReleaseName.parse("acme/pump-monitor")
PATH = PUMP.policy_path(1)
SIGNER = PolicyKey.of(key("acme.statements").public_key)
PLAIN: dict[str, Any] = json.loads(
    PublisherPolicy(epoch=1, provenance="none").to_bytes()
)


def installed(tmp_path: Path, **options: Any) -> tuple[World, Device]:
    """A device that runs 1.0.0, and another application beside it."""
    world = World(**options)
    world.release("1.0.0")
    world.release("1.0.0", "acme/valve")
    world.publish()
    device = world.device(tmp_path)
    device.policy = (
        b'[policy."acme/*"]\nrequire = ["signed"]\nallow-simple-profile = true\n'
    )
    assert device.install() == "1.0.0"  # sane
    return world, device


@pytest.mark.parametrize("profile", ["standard", "simple"])
def test_policy_removed(tmp_path: Path, profile: str) -> None:
    """Without a policy nothing is demanded, and so nothing is allowed."""
    world, device = installed(tmp_path, profile=profile)
    role = world.offline_role(PUMP)
    del world.roles[role].targets[PATH]
    world.touch(role)
    device.source.files = world.publish()
    with refused(
        device,
        PolicyError,
        "policy",
        match=rf"{role} v\d has no policy acme/policies/pump-monitor/1\.json",
        newer=True,
    ):
        device.verify()
    assert device.version("acme/valve") == "1.0.0"


def test_policy_of_an_unknown_newer_format_only(tmp_path: Path) -> None:
    """A device that knows format 1 does not guess what format 2 demands."""
    world, device = installed(tmp_path)
    del world.roles["acme"].targets[PATH]
    world.add_target("acme", PUMP.policy_path(2), b'{"format":2,"epoch":1}')
    device.source.files = world.publish()
    with refused(
        device, PolicyError, "policy", match=r"no policy .*/1\.json", newer=True
    ):
        device.verify()


def test_policy_of_a_newer_format_beside_the_known_one(tmp_path: Path) -> None:
    """A newer format locks no old device out, nor does it lift the old demands."""
    world, device = installed(tmp_path)
    world.add_target("acme", PUMP.policy_path(2), b'{"format":2,"epoch":1}')
    device.source.files = world.publish()
    assert device.version() == "1.0.0"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "publisher policy"),
        (b"{}", "format"),
        (b"not json", "publisher policy"),
        (json.dumps({**PLAIN, "sigstoreIdentity": "x"}).encode(), "sigstoreIdentity"),
        (json.dumps({**PLAIN, "format": 2}).encode(), "format"),
        (json.dumps({**PLAIN, "epoch": 0}).encode(), "epoch"),
        (json.dumps({**PLAIN, "epoch": 10**9}).encode(), "epoch"),
        (json.dumps({**PLAIN, "provenance": "maybe"}).encode(), "provenance"),
        (json.dumps({**PLAIN, "minimumVersion": "v2"}).encode(), "v2"),
        (b'{"format":1,"format":1}', "twice|duplicate"),
    ],
)
def test_policy_malformed(tmp_path: Path, data: bytes, match: str) -> None:
    """A policy that a device can't read whole is none, and an unknown field is one."""
    world, device = installed(tmp_path)
    world.add_target("acme", PATH, data)
    device.source.files = world.publish()
    with refused(device, MalformedError, "malformed", match=match, newer=True):
        device.verify()
    assert device.version("acme/valve") == "1.0.0"


def test_policy_in_the_place_of_another(tmp_path: Path) -> None:
    """A mirror serves another application's policy, a cut one, or none."""
    world, device = installed(tmp_path)
    world.set_policy("acme/pump-monitor", PublisherPolicy(epoch=2, provenance="none"))
    device.source.files = world.publish()
    sha256 = world.roles["acme"].targets[PATH].hashes["sha256"]
    targets = device.source.files.targets
    good = targets[PATH, sha256]
    targets[PATH, sha256] = good.replace(b'"epoch":2', b'"epoch":1')
    with refused(
        device, DigestMismatchError, "digest-mismatch", match=PATH, newer=True
    ):
        device.verify()
    targets[PATH, sha256] = good[:-2]
    with refused(device, LengthMismatchError, "length-mismatch", match=PATH):
        device.verify()
    del targets[PATH, sha256]
    with refused(device, FetchError, "fetch", match="no acme/policies"):
        device.verify()


def test_policy_too_large(tmp_path: Path) -> None:
    """A signed length lifts no limit of the device."""
    world, device = installed(tmp_path)
    world.add_target("acme", PATH, bytes(2 << 20))
    device.source.files = world.publish()
    device.source.asked.clear()
    with refused(device, TooLargeError, "too-large", match=PATH, newer=True):
        device.verify()
    assert PATH not in device.source.asked


def test_target_with_other_hashes(tmp_path: Path) -> None:
    """A target hash of a weaker algorithm, alone or beside sha256, is refused."""
    world, device = installed(tmp_path)
    file = world.roles["acme"].targets[PATH]
    for hashes in (
        {"md5": "0" * 32},
        {"md5": "0" * 32, **file.hashes},
        {"sha256": "../../../etc/passwd"},
    ):
        file.hashes = hashes
        world.touch("acme")
        device.source.files = world.publish()
        with refused(device, MalformedError, "malformed", match=PATH, newer=True):
            device.verify()


@pytest.mark.parametrize(
    ("policy", "error", "match"),
    [
        (
            PublisherPolicy(epoch=1, provenance="required"),
            ProvenanceError,
            "names no layout, which its publisher demands",
        ),
        (
            PublisherPolicy(
                epoch=1,
                provenance="none",
                attestations=(
                    AttestationRule(
                        type="https://slsa.dev/provenance/v1",
                        keyids=(SIGNER.keyid,),
                    ),
                ),
                keys=(SIGNER,),
            ),
            AttestationError,
            "names no statement of type https://slsa.dev/provenance/v1",
        ),
    ],
    ids=["provenance", "attestations"],
)
def test_policy_demands_what_is_not_proven(
    tmp_path: Path,
    policy: PublisherPolicy,
    error: type[ProvenanceError | AttestationError],
    match: str,
) -> None:
    """A demand that the record says nothing to is a demand that is not met."""
    world, device = installed(tmp_path)
    world.set_policy("acme/pump-monitor", policy)
    device.source.files = world.publish()
    with refused(device, error, error.code, match=match, newer=True):
        device.fetch()
    assert device.version("acme/valve") == "1.0.0"


def test_simple_profile_can_prove_nothing(tmp_path: Path) -> None:
    """Where one key says all, a demand for provenance is refused for what it is."""
    world, device = installed(tmp_path, profile="simple")
    world.set_policy(
        "acme/pump-monitor", PublisherPolicy(epoch=1, provenance="required")
    )
    device.source.files = world.publish()
    with refused(device, PolicyError, "policy", match="the profile simple", newer=True):
        device.verify()


def test_release_below_the_minimum(tmp_path: Path) -> None:
    """The offline minimum bars what the online key still lists."""
    world, device = installed(tmp_path)
    world.release("2.0.0")
    world.set_policy(
        "acme/pump-monitor",
        PublisherPolicy(
            epoch=1, provenance="none", minimum_version=Version.parse("2.0.0")
        ),
    )
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match=r"1\.0\.0 is out, below the publisher's minimum 2\.0\.0",
        newer=True,
    ):
        device.verify(pin="^1.0")
    assert device.version() == "2.0.0"
