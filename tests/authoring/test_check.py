"""`Repository.check` finds every problem, not the first, and no false one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.formats.digests import Digest
from tests.authoring.trust import OPEN, VALVE, Vendor, key

if TYPE_CHECKING:
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.verify.trust_store import TrustStore


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
        edit.add_release(vendor.release("1.0.0", name=VALVE))
    vendor.publish("1.0.0", "1.1.0")
    return vendor


def check(vendor: Vendor, store: TrustStore | None = None) -> Report:
    return vendor.repository.check(clock=vendor.clock, state=store)


def texts(report: Report) -> list[str]:
    return [one.text for one in report.violations]


def outcomes(report: Report) -> list[str]:
    return [one.outcome for one in report.steps]


def test_all_is_well(filled: Vendor) -> None:
    report = check(filled)
    assert (report.verdict, report.code) == ("verified", "verified")
    assert outcomes(report) == ["passed"] * 5
    facts = {one.number: one.facts for one in report.steps}
    assert facts[2]["timestamp"] == 3
    assert facts[3] == {"applications": 2}
    assert facts[4] == {"releases": 3}
    assert facts[5] == {"blobs": 7}


def test_a_new_repository_is_well(vendor: Vendor) -> None:
    vendor.create()
    assert check(vendor).verdict == "verified"


def test_strangers_in_the_directory_are_no_problem(filled: Vendor) -> None:
    (filled.trust / "metadata/9.snapshot.json").write_bytes(b"left by a killed run")
    (filled.trust / "metadata/.tmp-0123456789abcdef").write_bytes(b"half")
    (filled.trust / "README").write_text("hello")
    assert check(filled).verdict == "verified"
    filled.publish("9.0.0")
    assert not (filled.trust / "metadata/.tmp-0123456789abcdef").exists()


def test_every_problem_is_listed(filled: Vendor) -> None:
    layer = filled.trust / "blobs/sha256" / Digest.of(b"acme/valve 1.0.0").hex
    layer.write_bytes(b"acme/valve 6.6.6")
    manifest = filled.release("1.0.0").artifact.digest
    (filled.trust / "blobs/sha256" / manifest.hex).unlink()
    releases = filled.trust / "targets/acme/releases/pump-monitor"
    for record in releases.glob("*.1.1.0"):
        record.write_bytes(b"{}")
    report = check(filled)
    assert report.verdict == "rejected"
    assert outcomes(report) == ["passed", "passed", "passed", "failed", "failed"]
    found = "\n".join(texts(report))
    assert len(report.violations) == 3
    assert "acme/pump-monitor 1.1.0: acme/releases/pump-monitor/1.1.0 has" in found
    assert f"does not hold sha256:{manifest.hex}" in found
    assert "acme/valve 1.0.0: sha256:" in found


def test_missing_policy(filled: Vendor) -> None:
    for path in (filled.trust / "targets/acme/policies/valve").iterdir():
        path.unlink()
    report = check(filled)
    assert report.verdict == "rejected"
    (text,) = texts(report)
    assert text.startswith("acme/valve: ")
    assert text.endswith("does not exist")


def test_damaged_roles(filled: Vendor) -> None:
    version = filled.version("acme.pump-monitor")
    path = filled.trust / f"metadata/{version}.acme.pump-monitor.json"
    path.write_bytes(path.read_bytes().replace(b"1.1.0", b"1.9.0"))
    report = check(filled)
    (text,) = texts(report)
    assert text.startswith("acme/pump-monitor: acme.pump-monitor is not the file")
    assert report.steps[3].facts == {"releases": 1}


def test_a_damaged_publisher(filled: Vendor) -> None:
    (filled.trust / f"metadata/{filled.version('acme')}.acme.json").unlink()
    report = check(filled)
    assert report.verdict == "rejected"
    assert texts(report)[0].startswith("acme: ")


def test_a_damaged_snapshot(filled: Vendor) -> None:
    (filled.trust / f"metadata/{filled.version('snapshot')}.snapshot.json").unlink()
    report = check(filled)
    assert report.verdict == "rejected"
    assert outcomes(report)[:1] == ["failed"]
    assert outcomes(report)[2:] == ["not reached"] * 3


def test_expired_is_a_problem_and_no_end(filled: Vendor) -> None:
    layer = filled.trust / "blobs/sha256" / Digest.of(b"acme/valve 1.0.0").hex
    layer.unlink()
    filled.clock.advance(days=400)
    report = check(filled)
    found = texts(report)
    for role in ("targets", "acme", "acme.valve", "snapshot", "timestamp"):
        assert any(text.startswith(f"{role} v") for text in found), role
    assert any("does not hold" in text or "does not exist" in text for text in found)


def test_a_rollback_of_the_whole_directory(filled: Vendor) -> None:
    """The online key's thief publishes an old list: the previous state shows it."""
    memory = filled.store()
    filled.device(memory).refresh()
    previous = filled.trust / "authoring/previous-timestamp.json"
    current = (filled.trust / "metadata/timestamp.json").read_bytes()
    (filled.trust / "metadata/timestamp.json").write_bytes(previous.read_bytes())
    assert check(filled).verdict == "verified"
    report = check(filled, memory)
    assert report.code == "rollback"
    assert outcomes(report)[1] == "failed"
    previous.write_bytes(current)
    assert check(filled).code == "rollback"


def test_a_previous_state_that_nobody_holds_says_nothing(filled: Vendor) -> None:
    (filled.trust / "authoring/previous-timestamp.json").write_bytes(b"{}")
    assert check(filled).verdict == "verified"


def test_no_layout(filled: Vendor) -> None:
    (filled.trust / "oci-layout").unlink()
    report = check(filled)
    assert any("is not an OCI image layout" in text for text in texts(report))


def test_simple(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    assert check(vendor).steps[3].facts == {"releases": 1}
    assert check(vendor).verdict == "verified"
