"""Whatever is taken away, no stays no; and what is out of reach is no answer at all.

Mallory holds the mirror and all online keys: she decides which documents a device sees,
never what they must say.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    FetchError,
    InconclusiveError,
    VerificationError,
)
from margo_supplychain.formats.attestation_rules import AttestationRule, PolicyKey
from tests.attacks.proven import remembered, running, two_builders
from tests.attacks.scenes import contents
from tests.attacks.standing import stands
from tests.world.provenance import CYCLONEDX, SLSA, keyid, linked, sha256
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.world.provenance import Document, Run


def demanding(tmp_path: Path) -> Plant:
    """A plant whose vendor demands a chain, an SBOM and provenance."""
    plant = running(tmp_path)
    plant.policy(
        keys=(PolicyKey.of(key("ci").public_key),),
        attestations=tuple(
            AttestationRule(type=one, keyids=(keyid("ci"),))
            for one in (SLSA, CYCLONEDX)
        ),
    )
    run = plant.run("1.1.0")
    plant.publish(run, all_of(run))
    plant.verified("1.1.0")
    return plant


def all_of(run: Run) -> list[Document]:
    """Return everything that the vendor demands of a release."""
    return [
        *run.documents().values(),
        run.statement(SLSA, {"runDetails": {"builder": {"id": "ci"}}}, "ci"),
        run.statement(CYCLONEDX, {"bomFormat": "CycloneDX"}, "ci"),
    ]


def no(plant: Plant, kind: type[Exception] = VerificationError) -> None:
    """Expect a refusal, of whatever reason, after which nothing has moved."""
    before, content = stands(plant.device), contents(plant.device)
    memory = None
    for _ in range(2):
        with pytest.raises(kind):
            plant.device.verify()
        assert stands(plant.device) == before
        assert contents(plant.device) == content
        assert memory in (None, remembered(plant.device))
        memory = remembered(plant.device)


# --- T-229: what is dropped ----------------------------------------------------------


def test_any_dropped_document_of_a_good_release(tmp_path: Path) -> None:
    """The record leaves out one or more of what is demanded."""
    plant = demanding(tmp_path)
    run = plant.run("1.2.0")
    documents = all_of(run)
    for count in range(len(documents)):
        for few in combinations(documents, count):
            plant.publish(run, few)
            no(plant)
    plant.publish(run, documents)
    plant.verified("1.2.0")


def backdoor(run: Run) -> None:
    run.links["build"]["products"]["out/backdoor.so"] = sha256("mallory")


def other_program(run: Run) -> None:
    run.links["package"]["materials"]["out/pump.wasm"] = sha256("mallory")


def no_products(run: Run) -> None:
    run.links["package"]["products"] = {}


@pytest.mark.parametrize("harm", [backdoor, other_program, no_products])
def test_any_dropped_document_of_a_bad_release(tmp_path: Path, harm: object) -> None:
    """No part of what convicts a release can be left out to acquit it."""
    plant = demanding(tmp_path)
    run = plant.run("1.2.0")
    assert callable(harm)
    harm(run)
    documents = all_of(run)
    for count in range(len(documents) + 1):
        for few in combinations(documents, count):
            plant.publish(run, few)
            no(plant)


def test_dropped_disagreement(tmp_path: Path) -> None:
    """A layout that wants two builders is met by no one of them, once the link that
    disagrees is left out."""
    plant = running(tmp_path)
    two_builders(plant, threshold=2)
    run = plant.run("1.1.0")
    other = run.copy()
    other.links["build"]["products"]["out/pump.wasm"] = sha256("mallory")
    second = linked("build", other.links["build"], "builder-b")
    documents = [*run.documents().values(), second]
    for count in range(len(documents) + 1):
        for few in combinations(documents, count):
            plant.publish(run, few)
            no(plant)


# --- T-229: what is out of reach -----------------------------------------------------


def test_any_unreachable_document(tmp_path: Path) -> None:
    """A mirror that keeps a document back gets no yes, and can't make the device say
    that the release is bad: it can't tell, and says so."""
    plant = demanding(tmp_path)
    run = plant.run("1.2.0")
    plant.publish(run, all_of(run))
    blobs = plant.device.source.files.blobs
    for document in all_of(run):
        name = str(document.what.digest)
        kept = blobs.pop(name)
        error = plant.refused_by(FetchError, "no such blob")
        assert isinstance(error, InconclusiveError)
        assert error.report is not None
        assert error.report.verdict == "inconclusive"
        blobs[name] = kept
    plant.verified("1.2.0")


def test_source_is_cut_after_a_yes(tmp_path: Path) -> None:
    """What was used for a yes is kept: the same question has the same answer without
    the source, and what is newer there changes nothing."""
    plant = demanding(tmp_path)
    plant.device.source.down = True
    plant.verified("1.1.0")
    assert plant.device.source.asked  # it was asked, and did not answer


def test_source_is_cut_and_copies_are_damaged(tmp_path: Path) -> None:
    """A copy that was changed on the device's disk is not believed."""
    plant = demanding(tmp_path)
    plant.device.source.down = True
    plant.verified("1.1.0")
    for path in plant.copies():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    no(plant, InconclusiveError)
    plant.device.source.down = False
    plant.verified("1.1.0")
