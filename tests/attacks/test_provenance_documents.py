"""Envelopes and links that two readers understand differently, or that break one.

Mallory lists the release with the application's stolen key, and holds the tester's key
where what is signed has to be hers.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    BudgetError,
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    MalformedError,
)
from tests.attacks.proven import PUMP, running
from tests.world import MemorySource
from tests.world.provenance import (
    CYCLONEDX,
    LINK,
    PAYLOAD,
    SLSA,
    STATEMENT,
    Document,
    encode,
    envelope,
    layout,
    linked,
    payload_of,
    reopened,
    sha256,
    steps,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.world.provenance import Json, Run

MIB = 1 << 20


def publish_test(plant: Plant, run: Run, document: Document | bytes) -> None:
    """Publish a run whose link of `test` is this."""
    documents = run.documents()
    if isinstance(document, bytes):
        document = Document(LINK, "test", document)
    documents["test"] = document
    plant.publish(run, documents.values())


# --- T-237: an envelope that was changed ---------------------------------------------


def test_tampered_payload(tmp_path: Path) -> None:
    """The link says something else than what the tester signed, and the record names
    the changed envelope by its digest."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    good = run.documents()["test"].data

    def change(raw: Json) -> None:
        said = payload_of(good)
        said["products"]["report/tests.json"] = sha256("all green")
        raw["payload"] = base64.b64encode(encode(said)).decode()

    publish_test(plant, run, reopened(good, change))
    plant.refused("signature", "test")


def test_tampered_on_a_mirror(tmp_path: Path) -> None:
    """A mirror changes, cuts or lengthens an envelope that the record names."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    plant.publish(run)
    plant.verified("1.1.0")
    document = run.documents()["test"]
    blobs, name = plant.device.source.files.blobs, str(document.what.digest)
    plant.forget_copies()
    flipped = bytearray(document.data)
    flipped[len(flipped) // 2] ^= 1
    for data, kind in (
        (bytes(flipped), DigestMismatchError),
        (document.data[:-1], LengthMismatchError),
        (document.data + b" ", LengthMismatchError),
    ):
        blobs[name] = data
        plant.refused_by(kind, "attestation", newer=False)
    blobs[name] = document.data
    plant.verified("1.1.0")


def test_mirror_with_other_bytes(tmp_path: Path) -> None:
    """Who gives an envelope does not matter: a mirror with other bytes is passed over,
    and is no reason for a no as long as somebody has the right ones."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    plant.publish(run)
    name = str(run.documents()["test"].what.digest)
    right = plant.device.source.files.blobs.pop(name)
    bad, good = (MemorySource(plant.device.source.files.copy()) for _ in range(2))
    bad.files.blobs[name] = right.replace(b"a", b"b")
    plant.device.contents = [bad]
    plant.refused_by(DigestMismatchError, "attestation")
    good.files.blobs[name] = right
    plant.device.contents = [bad, good]
    plant.verified("1.1.0")
    assert name in bad.asked


def cut(sig: str, raw: Json) -> None:
    raw["signatures"][0]["sig"] = sig


def test_signature_cut(tmp_path: Path) -> None:
    """A signature that is shorter, longer or empty is none."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    good = run.documents()["test"].data
    whole = json.loads(good)["signatures"][0]["sig"]
    raw = base64.b64decode(whole)
    for sig in (raw[:-1], raw + b"\0", bytes(64)):
        text = base64.b64encode(sig).decode()
        publish_test(
            plant,
            run,
            reopened(good, partial(cut, text)),
        )
        plant.refused("signature", "test")


# --- T-238: types that are not what they seem ----------------------------------------


@pytest.mark.parametrize(
    "payload_type",
    [
        "application/json",
        "text/plain",
        "",
        "application/vnd.in-toto+JSON",
        "application/vnd.in-toto+json ",
        "application/vnd.in-toto.link",
        "application/vnd.dev.cosign.simplesigning.v1+json",
    ],
)
def test_unknown_payload_type(tmp_path: Path, payload_type: str) -> None:
    """A signed payload of another type is not read as a link, whatever it looks like:
    the tester may have signed it for another purpose."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    said = envelope(run.links["test"], "tester", payload_type=payload_type)
    publish_test(plant, run, said)
    no_type = payload_type != payload_type.strip() or not payload_type
    plant.refused("envelope" if no_type else "payload-type", "type")


def test_payload_type_changed_after_signing(tmp_path: Path) -> None:
    """What was signed as something else gets the right type afterwards: DSSE signs the
    type, too."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    said = envelope(run.links["test"], "tester", payload_type="application/json")
    publish_test(
        plant, run, reopened(said, lambda raw: raw.update(payloadType=PAYLOAD))
    )
    plant.refused("signature", "test")


def test_statement_in_place_of_a_link(tmp_path: Path) -> None:
    """The tester signed a statement of another type; the record calls it a link."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    slsa = run.statement(SLSA, run.links["test"], "tester")
    publish_test(plant, run, slsa.data)
    plant.refused("predicate-type", SLSA)


def test_link_under_another_type(tmp_path: Path) -> None:
    """The record calls a step's link something else: the step has no link."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    publish_test(
        plant, run, run.documents()["test"]._replace(type=CYCLONEDX, step=None)
    )
    plant.refused("missing-step", "test")


def test_link_in_a_statement(tmp_path: Path) -> None:
    """A link may come as a Statement: then its products are the subjects. What
    else its predicate calls products are none."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    publish_test(plant, run, envelope(as_statement(run.links["test"]), "tester"))
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    said = as_statement(other.links["test"])
    said["predicate"]["products"] = {"report/tests.json": sha256("all green")}
    said["subject"][0]["name"] = "report/other.json"
    publish_test(plant, other, envelope(said, "tester"))
    plant.refused("rule", r"report/other\.json")


def as_statement(said: Json) -> Json:
    """Return a link as in-toto's attestation of the same name."""
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": digest}
            for name, digest in said["products"].items()
        ],
        "predicateType": LINK,
        "predicate": {
            "name": said["name"],
            "command": said["command"],
            "materials": [
                {"name": name, "digest": digest}
                for name, digest in said["materials"].items()
            ],
            "byproducts": {},
            "environment": {},
        },
    }


# --- T-239: names of artifacts that look like others ---------------------------------

TRICKS = {
    "steps up": "report/../src/pump.c",
    "steps up behind a rule": "x/../report/tests.json",
    "here": "./report/tests.json",
    "here within": "report/./tests.json",
    "twice a slash": "report//tests.json",
    "a slash at the end": "report/tests.json/",
    "absolute": "/report/tests.json",
    "a drive": "report\\tests.json",
    "empty": "",
    "only up": "..",
    "a null": "report/tests.json\0",
    "a line's end": "report/tests.json\n",
    "right to left": "report/\u202etests.json",
    "nothing to see": "report/te\u200bsts.json",
    "not composed": "report/te\u0301sts.json",
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("of", ["materials", "products"])
def test_name_of_an_artifact(tmp_path: Path, trick: str, of: str) -> None:
    """A name that rules and people would read differently: `x/../secret` passes
    `DISALLOW secret/*` elsewhere. A layout that allows anything lets none of it in."""
    plant = running(tmp_path)
    found = steps()
    found[1]["expected_materials"].insert(1, ["ALLOW", "*"])
    found[1]["expected_products"].insert(1, ["ALLOW", "*"])
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    run.links["test"][of]["odd/but.fine"] = sha256("x")
    plant.publish(run)
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    other.links["test"][of][TRICKS[trick]] = sha256("mallory")
    plant.publish(other)
    error = plant.refused("artifact-name", "step test|link")
    assert error.step == "test"
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "pair",
    [
        ("odd/\u0430.txt", "odd/\u0410.txt"),
        ("odd/K.txt", "odd/\u212a.txt"),
        ("odd/fi.txt", "odd/\ufb01.txt"),
    ],
    ids=["cyrillic case", "kelvin sign", "ligature"],
)
def test_names_that_look_alike(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Two names of one link that only a computer can tell apart."""
    plant = running(tmp_path)
    found = steps()
    found[1]["expected_products"].insert(1, ["ALLOW", "*"])
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    run.links["test"]["products"] |= {name: sha256(name) for name in pair}
    plant.publish(run)
    plant.refused("artifact-name", "step test|link")


def test_names_that_grow(tmp_path: Path) -> None:
    """One letter stands for eighteen: comparing such names would take twenty times the
    memory of their link, on every device."""
    plant = running(tmp_path)
    found = steps()
    found[1]["expected_products"].insert(1, ["ALLOW", "*"])
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    run.links["test"]["products"]["odd/\ufdfa"] = sha256("x")
    plant.publish(run)
    plant.verified("1.1.0")

    other = plant.run("1.2.0")
    other.links["test"]["products"]["odd/" + "\ufdfa" * 200] = sha256("mallory")
    plant.publish(other)
    error = plant.refused("artifact-name", "step test|link")
    assert "3604 characters in plain letters" in str(error)


# --- T-240: digests that prove nothing -----------------------------------------------


@pytest.mark.parametrize(
    "digests",
    [
        {},
        {"md5": "0" * 32},
        {"sha1": "0" * 40, "md5": "0" * 32},
        {"gitCommit": "0" * 40},
        {"sha256": ""},
        {"sha256": "0" * 63},
        {"sha256": "g" * 64},
        {"SHA256": "0" * 64},
    ],
    ids=str,
)
def test_artifact_without_a_digest_that_counts(
    tmp_path: Path, digests: dict[str, str]
) -> None:
    """Nothing, or what can be forged, is on both sides of a MATCH the same."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["build"]["products"]["out/pump.wasm"] = digests
    for name in ("test", "package"):
        run.links[name]["materials"]["out/pump.wasm"] = digests
    plant.publish(run)
    error = plant.refused("digest-algorithm", r"out/pump\.wasm")
    assert error.step in {"build", "test", "package"}


def test_only_a_weak_digest_in_common(tmp_path: Path) -> None:
    """One side has sha256, the other sha512; both have md5, and that is not enough."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["build"]["products"]["out/pump.wasm"]["md5"] = "0" * 32
    other = {"sha512": "0" * 128, "md5": "0" * 32}
    run.links["test"]["materials"]["out/pump.wasm"] = other
    plant.publish(run)
    error = plant.refused("rule", r"out/pump\.wasm")
    assert error.step == "test"


def test_one_of_two_digests_is_wrong(tmp_path: Path) -> None:
    """All that both sides name must be the same."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    run.links["build"]["products"]["out/pump.wasm"]["sha512"] = "1" * 128
    plant.publish(run)
    plant.verified("1.1.0")
    other = plant.run("1.2.0")
    other.links["build"]["products"]["out/pump.wasm"]["sha512"] = "1" * 128
    other.links["test"]["materials"]["out/pump.wasm"]["sha512"] = "2" * 128
    plant.publish(other)
    plant.refused("rule", r"out/pump\.wasm")


# --- T-241: documents that break a reader --------------------------------------------


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def sealed(payload: bytes) -> bytes:
    return envelope(payload, "tester")


HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"{}", "envelope"),
    "no JSON": (b"{", "envelope"),
    "a list": (b"[]", "envelope"),
    "deep envelope": (deep(100_000), "envelope"),
    "nested envelope": (nested(100_000), "envelope"),
    "deep payload": (sealed(deep(100_000)), "envelope"),
    "nested payload": (sealed(nested(100_000)), "envelope"),
    "no text": (sealed(b"\xff\xfe"), "envelope"),
    "payload is no object": (sealed(b"[]"), "envelope"),
    "number too large": (sealed(b'{"a":' + b"9" * 10_000 + b"}"), "envelope"),
    "no base64": (
        reopened(sealed(b"{}"), lambda raw: raw.update(payload="*")),
        "envelope",
    ),
    "no signatures": (
        reopened(sealed(b"{}"), lambda raw: raw.pop("signatures")),
        "envelope",
    ),
    "ten thousand signatures": (
        reopened(
            sealed(b"{}"), lambda raw: raw.update(signatures=raw["signatures"] * 10_000)
        ),
        "envelope",
    ),
    "fields twice": (
        b'{"payload":"","payload":"","payloadType":"x","signatures":[]}',
        "envelope",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_envelope_that_breaks_a_reader(tmp_path: Path, what: str) -> None:
    """Whatever the record names in place of a link, the answer is a plain no."""
    plant = running(tmp_path)
    data, reason = HOSTILE[what]
    publish_test(plant, plant.run("1.1.0"), data)
    plant.refused(reason, "step test|link")


def test_link_that_says_a_thing_twice(tmp_path: Path) -> None:
    """One reader takes the first products, another the last."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    text = encode(run.links["test"])
    twice = text.replace(b'"products":', b'"products":{},"products":', 1)
    assert twice != text
    publish_test(plant, run, sealed(twice))
    plant.refused("envelope", "products")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_type": "layout"}, "sublayout"),
        ({"_type": "Link"}, "envelope"),
        ({"name": 7}, "envelope"),
        ({"materials": []}, "envelope"),
        ({"products": {"a": "00"}}, "digest-algorithm"),
        ({"products": {"a": {"sha256": 7}}}, "digest-algorithm"),
        ({"command": "make"}, "envelope"),
    ],
    ids=str,
)
def test_link_of_another_shape(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    """Signed by the right key, and still no link."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    publish_test(plant, run, sealed(encode({**run.links["test"], **change})))
    error = plant.refused(reason, "step test|link")
    assert error.step == "test"


def test_envelope_above_the_limit(tmp_path: Path) -> None:
    """A record that names more than a device reads is refused before it is fetched."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    record = plant.record(run, run.documents().values())
    said = json.loads(record.to_bytes())
    said["attestations"][0]["size"] = 65 * MIB
    custom = record.entry().to_custom()
    plant.world.add_target(PUMP.role, record.path, encode(said), custom)
    plant.serve()
    plant.refused_by(MalformedError, "size")
    assert said["attestations"][0]["digest"] not in plant.device.source.asked


def test_all_envelopes_above_the_limit(tmp_path: Path) -> None:
    """Each is small enough; together they are more than this device reads."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    plant.publish(run)
    sizes = [one.what.size for one in run.documents().values()]
    plant.device.limits = replace(plant.device.limits, attestations=sum(sizes) - 1)
    error = plant.refused_by(BudgetError, "attestations")
    assert error.report is not None
    plant.device.limits = replace(plant.device.limits, attestations=sum(sizes))
    plant.verified("1.1.0")


def test_flood_of_links(tmp_path: Path) -> None:
    """One functionary signs hundreds of links of a step: a device reads some, and then
    no more."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    many = [
        linked("test", {**run.links["test"], "byproducts": {"n": number}}, "tester")
        for number in range(300)
    ]
    plant.publish(run, [*run.documents().values(), *many[:100]])
    plant.verified("1.1.0")
    other = plant.run("1.2.0")
    plant.publish(other, [*other.documents().values(), *many])
    plant.device.source.asked.clear()
    plant.refused("unexpected-link", "more than 256 links")
    asked = set(plant.device.source.asked)
    assert len(asked & {str(one.what.digest) for one in many}) <= 256


def test_endless_envelope(tmp_path: Path) -> None:
    """A mirror that sends more than the record says is cut off."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    plant.publish(run)
    name = str(run.documents()["test"].what.digest)
    plant.device.source.files.blobs[name] = bytes(8 * MIB)
    plant.refused_by(LengthMismatchError, "attestation")


def test_envelope_that_nobody_has(tmp_path: Path) -> None:
    """A link that is out of reach is no missing step: the device can't tell."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    plant.publish(run)
    name = str(run.documents()["test"].what.digest)
    kept = plant.device.source.files.blobs.pop(name)
    error = plant.refused_by(FetchError, "no such blob")
    assert error.report is not None
    assert error.report.verdict == "inconclusive"
    plant.device.source.files.blobs[name] = kept
    plant.verified("1.1.0")
