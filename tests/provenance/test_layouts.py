"""Layouts are read strictly: nothing that restricts is skipped."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.formats import strict_json
from margo_supplychain.provenance.layouts import (
    MAX_RULES,
    Layout,
    parse_layout,
    read_layout,
)
from tests.provenance.chains import pipeline
from tests.world import provenance as world
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]


def parse(layout: Json) -> Layout:
    return parse_layout(strict_json.canonical(layout), what="layout 1")


def refused(layout: Json) -> ProvenanceError:
    with pytest.raises(ProvenanceError) as caught:
        parse(layout)
    assert caught.value.code == "provenance"
    return caught.value


def changed(change: Callable[[Json], object]) -> Json:
    layout = copy.deepcopy(pipeline().layout)
    change(layout)
    return layout


def first(layout: Json) -> Json:
    found: Json = layout["steps"][0]
    return found


def one_key(layout: Json) -> Json:
    found: Json = layout["keys"][world.keyid("builder")]
    return found


def test_what_a_layout_says() -> None:
    layout = pipeline().parsed()
    assert layout.release_step == "package"
    assert [one.name for one in layout.steps] == ["build", "package"]
    build = layout.step("build")
    assert build is not None
    assert build.keyids == (world.keyid("builder"), world.keyid("second"))
    assert (build.threshold, build.command) == (1, ())
    assert [one.text for one in build.products] == ["CREATE out/*", "DISALLOW *"]
    assert layout.expires == datetime(2028, 11, 21, 10, tzinfo=UTC)
    assert layout.readme == ""
    assert layout.step("no such") is None


def go_writes(layout: Json) -> None:
    """What in-toto-golang writes for what is empty, ITE-7's fields included."""
    layout |= {"inspect": None, "rootcas": {}, "intermediatecas": None}
    first(layout).update(cert_constraints=[], expected_command=None)
    first(layout)["expected_command"] = ["make", "all"]
    layout["steps"][1]["expected_command"] = None
    one_key(layout)["keyid_hash_algorithms"] = ["sha256", "sha512"]
    one_key(layout)["keyval"].update(private="", certificate="")
    layout["keys"][world.keyid("second")]["keyid_hash_algorithms"] = None
    del layout["readme"]


def test_what_go_writes_is_taken() -> None:
    layout = parse(changed(go_writes))
    build = layout.step("build")
    assert build is not None
    assert build.command == ("make", "all")


def test_lists_that_are_absent_are_empty() -> None:
    def without(layout: Json) -> None:
        del layout["inspect"]
        del first(layout)["expected_materials"]
        del first(layout)["expected_command"]

    build = parse(changed(without)).step("build")
    assert build is not None
    assert build.materials == ()


def _inspection(layout: Json) -> None:
    layout["inspect"] = [
        {
            "_type": "inspection",
            "name": "look",
            "run": ["touch", "/tmp/pwned"],  # noqa: S108 - must never run
            "expected_materials": [],
            "expected_products": [],
        }
    ]


def _second_release_step(layout: Json) -> None:
    first(layout)["expected_products"].insert(0, ["REQUIRE", world.MANIFEST])


def _no_release_step(layout: Json) -> None:
    layout["steps"][1]["expected_products"].pop(0)


def _many_rules(layout: Json) -> None:
    first(layout)["expected_products"] = [["ALLOW", "a"]] * (MAX_RULES - 5)


def _one_key_twice(layout: Json) -> None:
    again = copy.deepcopy(one_key(layout))
    again["keyid"] = "ab" * 32
    layout["keys"]["ab" * 32] = again
    first(layout)["pubkeys"] = [world.keyid("builder"), "ab" * 32]
    first(layout)["threshold"] = 2


def _many_keys(layout: Json) -> None:
    for number in range(257):
        layout["keys"][f"{number:064x}"] = {}


def _pem(public: Any) -> str:
    data: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data.decode()


def _other_curve(layout: Json) -> None:
    public = ec.generate_private_key(ec.SECP256K1()).public_key()
    one_key(layout).update(
        keytype="ecdsa", scheme="ecdsa-sha2-nistp256", keyval={"public": _pem(public)}
    )


def _other_kind(layout: Json) -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    one_key(layout).update(
        keytype="ecdsa", scheme="ecdsa-sha2-nistp256", keyval={"public": _pem(public)}
    )


BAD_KEY: Final[Json] = {"public": "ab", "private": ""}
CASES: Final[list[tuple[str, Callable[[Json], object], str]]] = [
    ("layout-empty", lambda one: one.update(steps=[]), "has no steps"),
    ("inspection", _inspection, "commands for the verifier"),
    ("layout-threshold", _one_key_twice, "names one key twice"),
    (
        "layout-threshold",
        lambda o: first(o).update(pubkeys=first(o)["pubkeys"] * 2),
        "names one key twice",
    ),
    ("layout-threshold", lambda o: first(o).update(threshold=0), "threshold 0"),
    ("layout-threshold", lambda o: first(o).update(threshold=-1), "threshold -1"),
    ("layout-threshold", lambda o: first(o).update(threshold=3), "2 distinct keys"),
    ("layout-threshold", lambda o: first(o).update(pubkeys=[]), "0 distinct keys"),
    ("layout-malformed", lambda o: o.update(_type="link"), "of type 'link'"),
    ("layout-malformed", lambda o: o.update(extra=1), "unknown field 'extra'"),
    ("layout-malformed", lambda o: first(o).update(extra=1), "unknown field 'extra'"),
    ("layout-malformed", lambda o: one_key(o).update(subkeys={}), "unknown field"),
    ("layout-malformed", lambda o: o.update(steps={}), "not a list"),
    ("layout-malformed", lambda o: o.update(steps=["build"]), "not an object"),
    ("layout-malformed", lambda o: o.pop("steps"), "no field 'steps'"),
    ("layout-malformed", lambda o: o.update(keys=None), "no field 'keys'"),
    ("layout-malformed", lambda o: o.update(expires="tomorrow"), "not a time"),
    ("layout-malformed", lambda o: o.update(readme=7), "not a string"),
    ("layout-malformed", lambda o: o.update(rootcas={"a": {}}), "not supported"),
    (
        "layout-malformed",
        lambda o: first(o).update(cert_constraints=[{}]),
        "not supported",
    ),
    ("layout-malformed", lambda o: first(o).update(name="../x"), "has the name"),
    ("layout-malformed", lambda o: first(o).update(name=".."), "has the name"),
    ("layout-malformed", lambda o: first(o).update(name="."), "has the name"),
    ("layout-malformed", lambda o: first(o).update(name=""), "has the name"),
    ("layout-malformed", lambda o: first(o).update(name="a b"), "has the name"),
    ("layout-malformed", lambda o: first(o).update(name="package"), "two steps"),
    ("layout-malformed", lambda o: first(o).update(_type="inspection"), "'step'"),
    ("layout-malformed", lambda o: first(o).update(threshold=True), "not an integer"),
    ("layout-malformed", lambda o: first(o).update(threshold="1"), "not an integer"),
    ("layout-malformed", lambda o: first(o).pop("threshold"), "no field 'threshold'"),
    ("layout-malformed", lambda o: first(o).update(pubkeys=["00"]), "which has none"),
    (
        "layout-malformed",
        lambda o: first(o).update(expected_products=["ALLOW *"]),
        r"expected_products\[0\] is not a list",
    ),
    (
        "layout-malformed",
        lambda o: first(o).update(expected_products=[["ALLOW"]]),
        r"steps\[0\].expected_products\[0\]: rule 'ALLOW' is none",
    ),
    (
        "layout-malformed",
        lambda o: first(o).update(
            expected_products=[["MATCH", "*", "WITH", "PRODUCTS", "FROM", "bild"]]
        ),
        "step build: 'MATCH .* FROM bild' names no step",
    ),
    ("layout-malformed", _second_release_step, "has 2 release steps"),
    ("layout-malformed", _no_release_step, "has 0 release steps"),
    ("layout-malformed", _many_rules, "more than 1000 rules"),
    ("layout-malformed", _many_keys, "more than 256 keys"),
    ("layout-malformed", lambda o: one_key(o).update(keyid="00"), "its own key id"),
    ("layout-malformed", lambda o: o["keys"].update({"x": {}}), "its own key id"),
    (
        "layout-malformed",
        lambda o: one_key(o)["keyval"].update(private="secret"),
        "holds a private",
    ),
    (
        "layout-malformed",
        lambda o: one_key(o)["keyval"].update(certificate="PEM"),
        "holds a certificate",
    ),
    (
        "layout-malformed",
        lambda o: one_key(o).update(scheme="pgp+rsa-pkcsv1.5", keytype="rsa"),
        "has type 'rsa' and scheme 'pgp",
    ),
    ("layout-malformed", lambda o: one_key(o).update(keytype="rsa"), "has type 'rsa'"),
    ("layout-malformed", lambda o: one_key(o).update(keyval=BAD_KEY), "can't be read"),
    ("layout-malformed", _other_curve, "can't be read"),
    ("layout-malformed", _other_kind, "for 'ecdsa-sha2-nistp384', and says 'ecdsa"),
    (
        "layout-malformed",
        lambda o: one_key(o).update(keyid_hash_algorithms="sha256"),
        "not a list",
    ),
]


@pytest.mark.parametrize(("reason", "change", "said"), CASES)
def test_layouts_that_are_refused(
    reason: str, change: Callable[[Json], object], said: str
) -> None:
    error = refused(changed(change))
    assert error.reason == reason
    with pytest.raises(ProvenanceError, match=said):
        raise error


@pytest.mark.parametrize("scheme", ["rsassa-pss-sha256", "rsa-pkcs1v15-sha512"])
def test_rsa_keys_have_several_schemes(scheme: str) -> None:
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()

    def change(layout: Json) -> None:
        one_key(layout).update(
            keytype="rsa", scheme=scheme, keyval={"public": _pem(public)}
        )

    assert parse(changed(change)).keys[world.keyid("builder")].scheme == scheme


def test_no_release_step_says_what_to_write() -> None:
    error = refused(changed(_no_release_step))
    assert error.rule == "REQUIRE release/manifest"
    assert error.wanted is not None
    assert "among its products" in error.wanted
    error = refused(changed(_second_release_step))
    assert error.found == "build, package"


def test_a_rule_about_no_step_says_which_there_are() -> None:
    def change(layout: Json) -> None:
        layout["steps"][1]["expected_materials"][0][-1] = "bild"

    error = refused(changed(change))
    assert (error.step, error.found) == ("package", "bild")
    assert error.wanted == "one of build, package"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"_type":"layout","_type":"layout"}',
        b'{"_type":' + b"[" * 100 + b"]" * 100 + b"}",
        b"{" + b" " * (1 << 20) + b"}",
        b'{"expires":NaN}',
    ],
)
def test_bytes_that_are_no_layout(data: bytes) -> None:
    with pytest.raises(ProvenanceError) as caught:
        parse_layout(data, what="layout 1")
    assert caught.value.reason == "layout-malformed"


def test_the_envelope_of_a_layout() -> None:
    layout = pipeline().layout
    found, envelope = read_layout(world.envelope(layout, "boss"), what="layout 1")
    assert envelope.payload == world.encode(layout)
    assert found == parse_layout(envelope.payload, what="layout 1")
    data = world.envelope(layout, "boss", payload_type="application/json")
    with pytest.raises(ProvenanceError, match="payload type 'application/json'") as why:
        read_layout(data, what="layout 1")
    assert why.value.reason == "payload-type"
    with pytest.raises(ProvenanceError) as no_envelope:
        read_layout(b'{"signed":{},"signatures":[]}', what="layout 1")
    assert no_envelope.value.reason == "envelope"
    with pytest.raises(ProvenanceError, match="more than the limit"):
        read_layout(b" " * ((1 << 20) + 1), what="layout 1")


def test_who_signed_a_layout_decides_nothing_here() -> None:
    """TUF's listing does; the envelope goes back to the caller, who reports it."""
    layout = pipeline().layout
    assert read_layout(world.envelope(layout, "mallory"), what="layout 1")[0]
    assert key("boss") is not key("mallory")
