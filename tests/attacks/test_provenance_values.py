"""Links, layouts, statements and summaries in which any one value is something else.

Each is signed by the right key, as if its holder were Mallory or his tool were broken:
the answer is a refusal by name, or the one that it was; never another exception.
"""

from __future__ import annotations

import json
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.errors import InconclusiveError, VerificationError
from margo_supplychain.formats.attestation_rules import (
    AttestationRule,
    PolicyKey,
    SummaryRule,
)
from margo_supplychain.formats.times import format_time
from tests.attacks.proven import MONTH, PROVEN, running
from tests.attacks.test_hostile_values import VALUES, places, put
from tests.world.provenance import (
    CYCLONEDX,
    LINK,
    OPENVEX,
    SLSA,
    SPDX,
    Document,
    encode,
    envelope,
    keyid,
    layout,
    payload_of,
    summed_up,
)
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.world.provenance import Json, Run

REFUSALS: Final = {"provenance", "attestation", "policy", "clock"}
RULES: Final = (
    PROVEN
    + b"""
builder = ["https://ci.acme.example"]
source = ["https://git.acme.example/pump"]
sbom = ["cyclonedx", "spdx"]
vex-max-age = "30d"
supported = true
"""
)
HOSTILE: Final = "\x1b[2J\u202e\n"
BY_SUMMARY: Final = PROVEN + b'provenance = "summary"\n'
WHEN: Final = "2026-11-01T00:00:00Z"
PREDICATES: Final[dict[str, Json]] = {
    SLSA: {
        "buildDefinition": {
            "buildType": "https://acme.example/build/v1",
            "externalParameters": {"repository": "https://git.acme.example/pump"},
            "resolvedDependencies": [
                {
                    "uri": "git+https://git.acme.example/pump@refs/tags/v1",
                    "digest": {"gitCommit": "0" * 40},
                }
            ],
        },
        "runDetails": {"builder": {"id": "https://ci.acme.example"}},
    },
    CYCLONEDX: {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {
            "timestamp": WHEN,
            "component": {
                "type": "application",
                "bom-ref": "pump",
                "name": "pump",
                "properties": [
                    {
                        "name": "cdx:lifecycle:milestone:endOfSupport",
                        "value": "2030-01-01",
                    }
                ],
            },
        },
        "components": [{"type": "library", "name": "zlib", "version": "1.3"}],
        "vulnerabilities": [
            {
                "id": "CVE-2026-0002",
                "published": WHEN,
                "updated": WHEN,
                "analysis": {"state": "resolved"},
                "affects": [{"ref": "pump"}],
            }
        ],
    },
    SPDX: {
        "spdxVersion": "SPDX-2.3",
        "SPDXID": "SPDXRef-DOCUMENT",
        "documentDescribes": ["SPDXRef-pump"],
        "packages": [
            {"SPDXID": "SPDXRef-pump", "name": "pump", "validUntilDate": "2030-01-01"}
        ],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-pump",
            }
        ],
    },
    OPENVEX: {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://acme.example/vex/1",
        "author": "acme",
        "timestamp": WHEN,
        "version": 1,
        "statements": [
            {
                "vulnerability": {"name": "CVE-2026-0001"},
                "status": "affected",
                "timestamp": WHEN,
                "action_statement": "close the valve",
            }
        ],
    },
}


def proven_everyhow(tmp_path: Path) -> Plant:
    """A plant whose vendor demands statements of all types, and whose device looks."""
    plant = running(tmp_path)
    plant.policy(
        keys=tuple(PolicyKey.of(key(one).public_key) for one in ("ci", "verifier")),
        attestations=tuple(
            AttestationRule(type=one, keyids=(keyid("ci"),)) for one in PREDICATES
        ),
        summary=SummaryRule(keyids=(keyid("verifier"),), threshold=1, max_age=MONTH),
    )
    plant.device.policy = RULES
    run = plant.run("1.1.0")
    plant.publish(run, [*run.documents().values(), *stated(run).values()])
    plant.verified("1.1.0")
    return plant


def stated(run: Run) -> dict[str, Document]:
    """Return what the vendor says of a release, by type."""
    return {
        type_: run.statement(type_, predicate, "ci")
        for type_, predicate in PREDICATES.items()
    }


def changes(document: Json) -> Iterator[Json]:
    """Yield the document with other values, and another name, in each place."""
    values = cycle(VALUES)
    for place in places(document):
        for _ in range(2):
            changed: Json = json.loads(encode(document))
            put(changed, place, next(values))
            yield changed
        if isinstance(place[-1], str):
            yield renamed(document, place)


def renamed(document: Json, place: tuple[Any, ...]) -> Json:
    """Return the document with another name for a field."""
    changed: Json = json.loads(encode(document))
    inner: Any = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[HOSTILE] = inner.pop(place[-1])
    return changed


def outcome(plant: Plant) -> str:
    """Return what the device says: a version, or an error's code."""
    try:
        return str(plant.device.verify().version)
    except (VerificationError, InconclusiveError) as why:
        # Whoever writes a document must not write on people's terminals.
        return why.code if str(why).isprintable() else ascii(str(why))


def judged(plant: Plant, said: Json, publish: Callable[[Json], None]) -> None:
    """Publish every change, and expect a refusal by name or the answer as it was."""
    outcomes = set()
    for changed in changes(said):
        publish(changed)
        outcomes.add(outcome(plant))
    assert REFUSALS & outcomes
    assert outcomes <= REFUSALS | {"1.1.0"}


# --- T-241: any value of a document --------------------------------------------------


@pytest.mark.parametrize("name", ["build", "test", "package"])
def test_any_value_of_a_link(tmp_path: Path, name: str) -> None:
    plant = running(tmp_path)
    run = plant.run("1.1.0")

    def publish(changed: Json) -> None:
        documents = run.documents()
        documents[name] = Document(LINK, name, envelope(changed, run.signers[name][0]))
        plant.publish(run, documents.values())

    judged(plant, run.links[name], publish)


def test_any_value_of_an_envelope(tmp_path: Path) -> None:
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    good = run.documents()

    def publish(changed: Json) -> None:
        document = good["test"]._replace(data=encode(changed))
        plant.publish(run, {**good, "test": document}.values())

    judged(plant, json.loads(good["test"].data), publish)


def test_any_value_of_a_layout(tmp_path: Path) -> None:
    plant = running(tmp_path)
    run = plant.run("1.1.0")

    def publish(changed: Json) -> None:
        plant.use_layout(changed)
        plant.publish(run)

    judged(plant, layout(), publish)


@pytest.mark.parametrize("type_", PREDICATES)
def test_any_value_of_a_statement(tmp_path: Path, type_: str) -> None:
    plant = proven_everyhow(tmp_path)
    run = plant.run("1.1.0")
    good = stated(run)

    def publish(changed: Json) -> None:
        said = {**good, type_: Document(type_, None, envelope(changed, "ci"))}
        plant.publish(run, [*run.documents().values(), *said.values()])

    judged(plant, payload_of(good[type_].data), publish)


def test_any_value_of_a_summary(tmp_path: Path) -> None:
    plant = proven_everyhow(tmp_path)
    plant.policy(attestations=())
    plant.device.policy = BY_SUMMARY
    run = plant.run("1.1.0")
    record = plant.record(run, run.documents().values())
    good = summed_up(
        run,
        record=record.to_bytes(),
        layout_file=plant.layout_file(1),
        when=format_time(plant.world.clock.when),
    )
    plant.publish(run, summaries=[envelope(good, "verifier")])
    plant.verified("1.1.0", "summary")

    def publish(changed: Json) -> None:
        plant.publish(run, summaries=[envelope(changed, "verifier")])

    judged(plant, good, publish)
