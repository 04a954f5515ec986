"""Links of both forms; what is no link, or names what can't be told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from in_toto.models.link import Link as InTotoLink
from in_toto.models.metadata import Envelope as InTotoEnvelope

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.provenance.links import Link, parse_link

HEX = "ab" * 32
TYPE = "https://in-toto.io/attestation/link/v0.3"


def read(value: object, payload_type: str = PAYLOAD) -> Link:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_link(data, payload_type=payload_type, what="build.link")


def link(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "_type": "link",
        "name": "build",
        "command": ["make", "all"],
        "materials": {"src/a.c": {"sha256": HEX}},
        "products": {"a": {"sha256": "cd" * 32}, "b": {"sha512": "ab" * 64}},
        "byproducts": {"return-value": 0, "seconds": 1.5},
        "environment": {},
    }
    return {key: one for key, one in (value | changes).items() if one != "absent"}


def statement(**changes: Any) -> dict[str, Any]:
    predicate: dict[str, Any] = {
        "name": "build",
        "command": ["make", "all"],
        "materials": [{"name": "src/a.c", "digest": {"sha256": HEX}}],
    }
    subject = [
        {"name": "a", "digest": {"sha256": "cd" * 32}},
        {"name": "b", "digest": {"sha512": "ab" * 64}, "uri": "x"},
    ]
    outer: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": TYPE,
    }
    for name, value in changes.items():
        (outer if name in (*outer, "predicate") else predicate)[name] = value
    return {"predicate": predicate} | outer


EXPECTED = Link(
    name="build",
    materials={"src/a.c": HEX},
    products={"a": "cd" * 32, "b": ("sha512:" + "ab" * 64,)},
    command=("make", "all"),
)


@pytest.mark.parametrize("payload_type", [PAYLOAD, "application/vnd.in-toto.link+json"])
def test_both_forms(payload_type: str) -> None:
    """Pitfall 25: a Statement, and a payload type that names the predicate."""
    assert read(link(), payload_type) == EXPECTED
    assert read(statement(), payload_type) == EXPECTED
    older = statement(_type="https://in-toto.io/Statement/v0.1")
    assert read(older, payload_type) == EXPECTED


def test_link_of_in_toto() -> None:
    made = InTotoLink(  # type: ignore[no-untyped-call] # in-toto
        name="build",
        materials={"src/a.c": {"sha256": HEX}},
        products={"a": {"sha256": "cd" * 32}},
        command=["make"],
        byproducts={"stdout": 'a: "b", [\\'},
    )
    payload = InTotoEnvelope.from_signable(made).payload
    found = read(payload)
    assert (found.name, found.materials) == ("build", {"src/a.c": HEX})


@pytest.mark.parametrize(
    "changes",
    [
        {"command": None, "materials": None, "products": None},
        {"command": "absent", "materials": {}, "products": {}},
        {"command": [], "byproducts": "absent", "materials": {}, "products": None},
    ],
)
def test_link_of_a_step_that_touched_nothing(changes: dict[str, Any]) -> None:
    """in-toto-golang writes null for what is empty."""
    found = read(link(**changes, extra=[1.5, None]))
    assert (found.materials, found.products, found.command) == ({}, {}, ())


def test_statement_without_command_and_materials() -> None:
    found = read(statement(predicate={"name": "build"}))
    assert (found.materials, found.command) == ({}, ())


@pytest.mark.parametrize(
    ("value", "reason", "problem"),
    [
        (b"{", "envelope", "build.link is not JSON"),
        (b"[]", "envelope", "build.link is not a JSON object"),
        (b"\xff", "envelope", "build.link is not UTF-8"),
        (b'{"a":' + b"[" * 999, "envelope", "nested deeper than 64"),
        (b'{"a":[' + b"[]," * 9999 + b"1]}", "envelope", "holds more than"),
        (b'{"name":"a","name":"b"}', "envelope", "names 'name' twice"),
        ({}, "envelope", "of type None, expected https://in-toto.io/Statement/v1"),
        ({"_type": "Link"}, "envelope", "of type 'Link'"),
        ({"_type": ["link"]}, "envelope", "of type"),
        ({"_type": "layout"}, "sublayout", "holds a layout .a sublayout., expected"),
        (link(_type="layout"), "sublayout", "holds a layout"),
        (link(name="absent"), "envelope", "names the step None, expected text of 1"),
        (link(name=""), "envelope", "names the step ''"),
        (link(name=1), "envelope", "names the step 1"),
        (link(name="a" * 201), "envelope", "names the step 'aaa"),
        (link(command="make"), "envelope", "has the command 'make', expected up to"),
        (link(command=["make", 1]), "envelope", "has the command"),
        (link(command=["x" * 20] * 10_001), "envelope", "has the command"),
        (link(materials=[]), "envelope", "materials of build.link are no object"),
        (link(products=["a"]), "envelope", "products of build.link are no object"),
        (statement(subject=[]), "envelope", "has no list of subjects"),
        (statement(predicateType=None), "envelope", "has no predicate type"),
        (statement(materials={}), "envelope", "materials of build.link are no list"),
        (statement(materials=["a"]), "envelope", "materials .* one without a name"),
        (statement(materials=[{"name": 1}]), "envelope", "have one without a name"),
        (
            statement(subject=[{"digest": {"sha256": HEX}}]),
            "envelope",
            "products of build.link have one without a name",
        ),
        (
            statement(subject=[{"name": "a", "digest": {"sha256": HEX}}] * 2),
            "envelope",
            "products of build.link name 'a' twice",
        ),
        (
            statement(predicateType="https://slsa.dev/provenance/v1"),
            "predicate-type",
            "is a statement of type https://slsa.dev/provenance/v1, expected",
        ),
        (
            statement(predicateType="https://in-toto.io/Link/v0.2"),
            "predicate-type",
            "expected https://in-toto.io/attestation/link/v0.3",
        ),
        (
            statement(materials=[{"name": "a"}]),
            "digest-algorithm",
            "materials of build.link have 'a' with no digest",
        ),
    ],
)
def test_what_is_no_link(value: object, reason: str, problem: str) -> None:
    with pytest.raises(ProvenanceError, match=problem) as caught:
        read(value)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "payload_type", ["text/plain", "application/json", "application/vnd.in-toto"]
)
def test_payload_of_another_type(payload_type: str) -> None:
    """What a key signed for another purpose is no link, whatever it holds."""
    with pytest.raises(ProvenanceError, match="has the payload type") as caught:
        read(link(), payload_type)
    assert caught.value.reason == "payload-type"
    assert caught.value.found == payload_type
    assert caught.value.wanted == PAYLOAD


# --- names ---------------------------------------------------------------------------

PROPER = [
    "a",
    ".gitignore",
    "..a/b..",
    "...",
    ".../a",
    "a b/c: d*",
    "a/.b/.c.d",
    "é/\u6f22",
    "x" * 4096,
    "é" * 255 + "/" + "é" * 255,
    "release/components/a%2Fb/c",
]
WRONG = {
    "": "has 0 characters, expected 1 to 4096",
    "x" * 4097: "has 4097 characters",
    ".": "is no relative, normalised path",
    "..": "is no relative",
    "/a": "is no relative",
    "/": "is no relative",
    "a/": "is no relative",
    "a//b": "is no relative",
    "./a": "is no relative",
    "../a": "is no relative",
    "a/.": "is no relative",
    "a/..": "is no relative",
    "a/./b": "is no relative",
    "x/../secret/f": "is no relative",  # pitfall 8
    "a\\b": "has a backslash",
    "é\\b": "has a backslash",
    "a\nb": "has characters that nobody sees",
    "a\n": "has characters that nobody sees",
    "\n": "has characters that nobody sees",
    "é\nb": "has characters that nobody sees",
    "a\tb": "has characters that nobody sees",
    "a\0": "has characters that nobody sees",
    "a\x7f": "has characters that nobody sees",
    "a\x85": "has characters that nobody sees",
    "a\u200bb": "has characters that nobody sees",
    "a\u202eb": "has characters that nobody sees",
    "a\u2066b": "has characters that nobody sees",
    "a\u2028b": "has characters that nobody sees",
    "a\u00a0b": "has characters that nobody sees",
    "a\u00adb": "has characters that nobody sees",
    "a\ufe0f": "has characters that nobody sees",
    "a\u3164b": "has characters that nobody sees",
    "a\U000e0101": "has characters that nobody sees",
    "a\U000e0041": "has characters that nobody sees",
    "é" * 256: "has a step of more than 255 characters",
    "a/" + "é" * 256 + "/b": "has a step of more than 255 characters",
    "e\u0301": "is not in Unicode's normal form C",
    "\u212b": "is not in Unicode's normal form C",
}


@pytest.mark.parametrize("name", PROPER)
@pytest.mark.parametrize("where", ["materials", "products"])
def test_names(name: str, where: str) -> None:
    found = read(link(**{where: {"ok": {"sha256": HEX}, name: {"sha256": HEX}}}))
    assert name in getattr(found, where)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("where", ["materials", "products"])
def test_names_that_mean_another_file(name: str, where: str) -> None:
    artifacts = {f"ok{number}": {"sha256": HEX} for number in range(200)}
    with pytest.raises(ProvenanceError, match=WRONG[name]) as caught:
        read(link(**{where: artifacts | {name: {"sha256": HEX}}}))
    assert caught.value.reason == "artifact-name"
    assert caught.value.artifact == name[:4096]
    assert str(caught.value).startswith(f"{where} of build.link names '")
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("\uff41", "a"),  # full width
        ("\u212a", "K"),  # the sign of kelvin is refused as it stands
        ("\ufb01le", "file"),
        ("stra\u00dfe", "strasse"),
        ("\u00c9", "\u00e9"),
        ("\u01c5", "\u01c6"),
        ("\u2024/a", "./a"),
        ("a\u2044b", "a\u2044B"),
        ("\u2460", "1"),
        ("\u017ft", "ST"),
    ],
)
@pytest.mark.parametrize("between", [False, True])
def test_names_that_look_alike(name: str, other: str, between: bool) -> None:
    one, two = {name: {"sha256": HEX}}, {other: {"sha256": HEX}}
    value = (
        link(materials=one, products=two)
        if between
        else link(materials={}, products=one | two)
    )
    with pytest.raises(ProvenanceError) as caught:
        read(value)
    assert caught.value.reason == "artifact-name"


def test_files_of_two_cases_are_two_files() -> None:
    names = ["README", "readme", "é", "Makefile", "\u6f22"]
    found = read(link(products={name: {"sha256": HEX} for name in names}))
    assert [*found.products] == names
    # The same file before and after a step does not look like itself.
    one = {"é": {"sha256": HEX}}
    assert read(link(materials=one, products=one)).products == {"é": HEX}


# --- digests -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ({"sha256": HEX}, HEX),
        ({"sha256": HEX, "md5": "x", "gitCommit": 7}, HEX),
        ({"sha512": "cd" * 64}, ("sha512:" + "cd" * 64,)),
        (
            {"sha512": "cd" * 64, "sha256": HEX},
            ("sha256:" + HEX, "sha512:" + "cd" * 64),
        ),
        ({"sha384": "ef" * 48}, ("sha384:" + "ef" * 48,)),
    ],
)
def test_digests(digests: dict[str, Any], expected: object) -> None:
    found = read(link(products={"a": digests}))
    assert found.products == {"a": expected}
    both = read(link(products={"b": {"sha256": HEX}, "a": digests}))
    assert both.products == {"b": HEX, "a": expected}


@pytest.mark.parametrize(
    ("digests", "found"),
    [
        ({}, "no digest"),
        ({"md5": "ab" * 16}, "'md5'"),
        ({"sha1": "ab" * 20, "md5": "ab" * 16}, "'sha1', 'md5'"),
        ({"SHA256": HEX}, "'SHA256'"),
        ({"gitCommit": HEX}, "'gitCommit'"),
        ({"sha256": HEX.upper()}, f"the sha256 '{HEX.upper()}'"),
        ({"sha256": HEX[:-1]}, "the sha256 "),
        ({"sha256": HEX + "a"}, "the sha256 "),
        ({"sha256": "zz" * 32}, "the sha256 "),
        ({"sha256": "é" * 64}, "the sha256 "),
        ({"sha256": ""}, "the sha256 ''"),
        ({"sha256": None}, "the sha256 None"),
        ({"sha256": 7}, "the sha256 7"),
        ({"sha256": [HEX]}, "the sha256 "),
        ({"sha256": HEX, "sha512": HEX}, "the sha512 "),
        (None, "no digest"),
        (HEX, "no digest"),
        ([HEX], "no digest"),
        (["sha256"], "no digest"),
    ],
)
def test_what_has_no_content(digests: object, found: str) -> None:
    """Pitfall 13: `{}` and md5 prove nothing."""
    for products in ({"a": digests}, {"b": {"sha256": HEX}, "a": digests}):
        with pytest.raises(ProvenanceError, match="expected sha256, sha384") as caught:
            read(link(products=products))
        assert caught.value.reason == "digest-algorithm"
        assert caught.value.artifact == "a"
        assert str(caught.value.found).startswith(found)
        assert f"products of build.link have 'a' with {found}" in str(caught.value)
