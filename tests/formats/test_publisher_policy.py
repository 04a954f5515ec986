"""Publisher policies: round trips, limits, and every refusal."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.attestation_rules import (
    AttestationRule,
    PolicyKey,
    SummaryRule,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import (
    LayoutRule,
    PublisherPolicy,
    Reinstatement,
    RevokedFunctionary,
)
from margo_supplychain.formats.versions import Version

OLD, NEW = Digest.of(b"old"), Digest.of(b"new")
KEY = "ab" * 32
CURRENT = LayoutRule(
    number=2,
    digest=Digest.of(b"layout"),
    range=Pin.range("^1.2", grammar="npm"),
    expires=datetime(2027, 1, 1, tzinfo=UTC),
)
SUPERSEDED = LayoutRule(number=1, digest=Digest.of(b"older"), releases=(OLD,))
SIGNER = PolicyKey(
    keyid="05584cc3bfabb85de26cb80479f075fa802c97add45fd61feebaa0423da7f57a",
    keytype="ed25519",
    scheme="ed25519",
    public="ab" * 32,
)
SLSA = "https://slsa.dev/provenance/v1"
DEMAND = AttestationRule(
    type=SLSA,
    keyids=(SIGNER.keyid,),
    builders=("https://ci.acme.example/builder",),
    sources=("git+https://git.acme.example/pump",),
)
SUMMARY = SummaryRule(keyids=(SIGNER.keyid,), threshold=1, max_age=timedelta(days=30))
POLICY = PublisherPolicy(
    epoch=2,
    provenance="required",
    layouts=(SUPERSEDED, CURRENT),
    attestations=(DEMAND,),
    keys=(SIGNER,),
    summary=SUMMARY,
    minimum_version=Version.parse("1.1.0"),
    revoked_functionaries=(RevokedFunctionary(key=KEY, survivors=(OLD,)),),
    reinstated=(Reinstatement(artifact=OLD, up_to=7),),
    downgrade_to=(NEW,),
)


def changed(**fields: Any) -> bytes:
    """Return POLICY's JSON with top-level fields replaced; None removes one."""
    value = json.loads(POLICY.to_bytes())
    for name, content in fields.items():
        value[name] = content
        if content is None:
            del value[name]
    return json.dumps(value).encode()


def test_policy_round_trip() -> None:
    data = POLICY.to_bytes()
    assert PublisherPolicy.parse(data) == POLICY
    assert PublisherPolicy.parse(data).to_bytes() == data


def test_smallest_policy_round_trip() -> None:
    least = PublisherPolicy(epoch=1, provenance="none")
    assert PublisherPolicy.parse(least.to_bytes()) == least
    assert json.loads(least.to_bytes()) == {
        "format": 1,
        "epoch": 1,
        "provenance": "none",
        "layouts": [],
        "attestations": [],
        "revokedFunctionaries": [],
        "reinstated": [],
        "downgradeTo": [],
    }


def test_policy_bytes_are_the_agreed_ones() -> None:
    # Devices in the field parse this; a change of form is a change of `format`.
    value = json.loads(POLICY.to_bytes())
    assert value["minimumVersion"] == "1.1.0"
    assert value["layouts"][1] == {
        "number": 2,
        "digest": str(Digest.of(b"layout")),
        "range": {"grammar": "npm", "text": "^1.2"},
        "releases": [],
        "expires": "2027-01-01T00:00:00Z",
    }
    assert value["attestations"] == [
        {
            "type": SLSA,
            "keyids": [SIGNER.keyid],
            "threshold": 1,
            "builders": ["https://ci.acme.example/builder"],
            "sources": ["git+https://git.acme.example/pump"],
        }
    ]
    assert value["keys"] == [
        {
            "keyid": SIGNER.keyid,
            "keytype": "ed25519",
            "scheme": "ed25519",
            "public": "ab" * 32,
        }
    ]
    assert value["summary"] == {
        "keyids": [SIGNER.keyid],
        "threshold": 1,
        "maxAge": 2_592_000,
    }
    assert value["revokedFunctionaries"] == [{"key": KEY, "survivors": [str(OLD)]}]
    assert value["reinstated"] == [{"artifact": str(OLD), "upTo": 7}]
    assert value["downgradeTo"] == [str(NEW)]


LAYOUT = {"number": 1, "digest": str(OLD), "releases": [str(OLD)]}
NPM = {"grammar": "npm", "text": "^1.2"}
CURRENT_LAYOUT = LAYOUT | {"releases": [], "range": NPM}
RULE = DEMAND.to_dict()
SIGNING_KEY = SIGNER.to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "has format 2, newer than 1"),
        ({"format": -1}, "has format -1, expected 1"),
        ({"extra": []}, "publisher policy has unknown field 'extra'"),
        ({"epoch": 0}, "epoch is 0, expected 1 to"),
        ({"epoch": True}, "epoch is true, not an integer"),
        ({"epoch": 1_000_001}, "epoch is 1000001, expected 1 to 1000000"),
        ({"epoch": None}, "has no field 'epoch'"),
        ({"provenance": "optional"}, "is 'optional', expected 'required' or 'none'"),
        ({"provenance": None}, "has no field 'provenance'"),
        ({"minimumVersion": "1.1"}, r"minimumVersion: "),
        ({"minimumVersion": 1}, "minimumVersion is an integer, not a string"),
        ({"layouts": None}, "has no field 'layouts'"),
        ({"layouts": {}}, "layouts is an object, not a list"),
        ({"layouts": [LAYOUT, LAYOUT]}, "layouts names 1 twice"),
        ({"layouts": [LAYOUT | {"releases": []}]}, "layout 1 needs a range, or else"),
        ({"layouts": [LAYOUT | {"range": NPM}]}, "layout 1 needs a range, or else"),
        ({"layouts": [LAYOUT | {"number": 0}]}, "number of a layout is 0"),
        (
            {"layouts": [LAYOUT | {"digest": f"sha512:{'0' * 128}"}]},
            "layout 1 is named by sha512, expected sha256",
        ),
        ({"layouts": [LAYOUT | {"note": "x"}]}, r"layouts\[0\] has unknown field"),
        (
            {"layouts": [LAYOUT | {"releases": [], "range": NPM | {"grammar": "x"}}]},
            "grammar is 'x', expected 'npm'",
        ),
        (
            {"layouts": [LAYOUT | {"releases": [], "range": NPM | {"text": ">>1"}}]},
            r"layouts\[0\]\.range\.text: ",
        ),
        (
            {"layouts": [LAYOUT | {"releases": [], "range": NPM | {"x": 1}}]},
            r"layouts\[0\]\.range has unknown field 'x'",
        ),
        ({"layouts": [LAYOUT | {"expires": "soon"}]}, "'soon', not a time like"),
        (
            {"layouts": [CURRENT_LAYOUT, CURRENT_LAYOUT | {"number": 2}]},
            r"layouts 1 and 2 serve the same versions: \^1\.2 and \^1\.2",
        ),
        ({"attestations": ["a"]}, r"attestations\[0\] is a string, not an object"),
        ({"attestations": [RULE] * 65}, "65 entries, more than 64"),
        ({"attestations": [RULE, RULE]}, f"attestations names {SLSA} twice"),
        ({"attestations": [RULE | {"x": 1}]}, r"attestations\[0\] has unknown field"),
        ({"attestations": [RULE | {"type": "a b"}]}, "printable ASCII without spaces"),
        ({"attestations": [RULE | {"keyids": []}]}, "has 0 keyids, expected 1 to 64"),
        ({"attestations": [RULE | {"keyids": [KEY] * 65}]}, "65 entries, more than 64"),
        ({"attestations": [RULE | {"keyids": [KEY] * 2}]}, "keyids of .* twice"),
        (
            {"attestations": [RULE | {"keyids": ["AB"]}]},
            "'AB', not a key id of 64 hex digits",
        ),
        (
            {"attestations": [RULE | {"keyids": [KEY]}]},
            f"names the key {KEY}, which is not among its keys",
        ),
        ({"attestations": [RULE | {"threshold": 0}]}, "is 0, expected 1 to 1"),
        ({"attestations": [RULE | {"threshold": 2}]}, "is 2, expected 1 to 1"),
        ({"attestations": [RULE | {"builders": ["a b"]}]}, "builders of attestation"),
        (
            {"attestations": [RULE | {"type": "https://cyclonedx.org/bom"}]},
            "has no builders and sources: SLSA provenance has",
        ),
        (
            {"attestations": [RULE | {"type": SLSA.replace("prov", "x")}]},
            "has no builders and sources",
        ),
        *(
            ({"attestations": [RULE | {"type": one}]}, "can't be demanded of a record")
            for one in (
                "https://in-toto.io/attestation/link/v0.3",
                "https://in-toto.io/attestation/link",
                "https://slsa.dev/verification_summary/v1",
                "https://slsa.dev/verification_summary",
            )
        ),
        ({"attestations": [RULE | {"builders": ["a", "a"]}]}, "names a twice"),
        (
            {"attestations": [RULE | {"sources": [f"s{n}" for n in range(65)]}]},
            "65 entries, more than 64",
        ),
        ({"keys": [SIGNING_KEY] * 2}, f"keys names {SIGNER.keyid} twice"),
        (
            {"keys": [SIGNING_KEY | {"keyid": KEY}]},
            "has the id .*, computed of the key",
        ),
        ({"keys": [SIGNING_KEY | {"public": "cd" * 32}]}, "computed of the key"),
        ({"keys": [SIGNING_KEY | {"public": ""}]}, "is not 1 to 16384 ASCII"),
        ({"keys": [SIGNING_KEY | {"public": "é"}]}, "is not 1 to 16384 ASCII"),
        ({"keys": [SIGNING_KEY | {"keytype": "a\n"}]}, "keytype of a key"),
        ({"keys": [SIGNING_KEY | {"scheme": ""}]}, "scheme of a key"),
        ({"keys": [SIGNING_KEY | {"x": 1}]}, r"keys\[0\] has unknown field 'x'"),
        ({"keys": [SIGNING_KEY] * 257}, "257 entries, more than 256"),
        ({"summary": []}, "summary is a list, not an object"),
        ({"summary": SUMMARY.to_dict() | {"x": 1}}, "summary has unknown field 'x'"),
        ({"summary": SUMMARY.to_dict() | {"maxAge": 0}}, "maxAge is 0, expected 1 to"),
        (
            {"summary": SUMMARY.to_dict() | {"maxAge": 315_360_001}},
            "maxAge is 315360001, expected 1 to 315360000 seconds",
        ),
        ({"summary": SUMMARY.to_dict() | {"keyids": []}}, "summary has 0 keyids"),
        (
            {"summary": SUMMARY.to_dict() | {"threshold": 2}},
            "threshold of summary is 2",
        ),
        (
            {"revokedFunctionaries": [{"key": "ab", "survivors": []}]},
            "'ab' is not a key id of 64 hex digits",
        ),
        ({"revokedFunctionaries": [{"key": KEY}]}, "has no field 'survivors'"),
        (
            {"reinstated": [{"artifact": str(OLD), "upTo": 0}]},
            "upTo of .* is 0, expected 1",
        ),
        (
            {"reinstated": [{"artifact": str(OLD), "upTo": 1}] * 2},
            "reinstated names sha256:.* twice",
        ),
        ({"downgradeTo": [str(NEW)] * 2}, "downgradeTo names sha256:.* twice"),
        ({"downgradeTo": ["1.0.0"]}, r"downgradeTo\[0\]: digest '1\.0\.0:'"),
    ],
)
def test_policy_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        PublisherPolicy.parse(changed(**fields))


def test_policy_has_limits_on_counts_and_bytes() -> None:
    many = tuple(Digest.of(str(n).encode()) for n in range(10_001))
    with pytest.raises(MetadataFormatError, match="10001 digests, more than 10000"):
        replace(POLICY, downgrade_to=many)
    full = replace(POLICY, downgrade_to=many[:-1])
    assert PublisherPolicy.parse(full.to_bytes()) == full
    with pytest.raises(MetadataFormatError, match="more than the limit of 1048576"):
        replace(
            full,
            revoked_functionaries=(RevokedFunctionary(key=KEY, survivors=many[:-1]),),
        ).to_bytes()
    with pytest.raises(MetadataFormatError, match="more than the limit of 1048576"):
        PublisherPolicy.parse(POLICY.to_bytes() + b" " * (1 << 20))
    layouts = tuple(replace(SUPERSEDED, number=n + 1) for n in range(1_001))
    with pytest.raises(MetadataFormatError, match="1001 layouts, more than 1000"):
        replace(POLICY, layouts=layouts)


def test_rules_are_checked_however_they_are_made() -> None:
    with pytest.raises(MetadataFormatError, match="65 names, more than 64"):
        replace(DEMAND, builders=tuple(f"b{n}" for n in range(65)))
    with pytest.raises(MetadataFormatError, match="257 keys, more than 256"):
        replace(POLICY, keys=(SIGNER,) * 257)
    for age in (timedelta(0), timedelta(days=3651), timedelta(seconds=1.5)):
        with pytest.raises(MetadataFormatError, match="maxAge of summary is"):
            replace(SUMMARY, max_age=age)


def test_ranges_of_current_layouts_are_compared_with_bounded_work() -> None:
    many = " || ".join(f"{n}.x" for n in range(33))
    layouts = tuple(
        replace(CURRENT, number=n, range=Pin.range(many, grammar="npm"))
        for n in range(1, 3)
    )
    with pytest.raises(MetadataFormatError, match="66 alternatives, more than 64"):
        replace(POLICY, layouts=layouts)


def test_a_rule_covers_the_versions_of_its_type() -> None:
    assert DEMAND.covers(SLSA)
    assert not DEMAND.covers("https://slsa.dev/provenance/v1.1")
    assert not DEMAND.covers("https://slsa.dev/provenance")
    bom = replace(DEMAND, type="https://cyclonedx.org/bom", builders=(), sources=())
    assert replace(DEMAND, type="https://slsa.dev/provenance").covers(SLSA)
    assert bom.covers("https://cyclonedx.org/bom")
    assert bom.covers("https://cyclonedx.org/bom/v1.6")
    for other in ("/v1.6/x", "/x", "x", "/v", "/v1.", "/v1\n"):
        assert not bom.covers(bom.type + other)


def test_a_key_of_a_policy_is_a_key() -> None:
    key = SIGNER.to_key()
    assert PolicyKey.of(key) == SIGNER
    key.keyid = "renamed"
    assert PolicyKey.of(key) == SIGNER


def test_which_layout_serves_a_release() -> None:
    version = Version.parse
    assert POLICY.layout(1) == SUPERSEDED
    assert POLICY.layout(3) is None
    assert POLICY.layout_for(version("1.3.0")) == CURRENT
    assert POLICY.layout_for(version("1.1.0")) is None
    assert POLICY.layout_for(version("1.1.0"), OLD) == SUPERSEDED
    assert POLICY.layout_for(version("1.1.0"), NEW) is None
    assert POLICY.layout_for(version("1.3.0"), OLD) == CURRENT
    assert CURRENT.serves(version("1.2.0"), OLD)
    assert not CURRENT.serves(version("2.0.0"), OLD)
    assert SUPERSEDED.serves(version("1.2.0"), OLD)
    assert not SUPERSEDED.serves(version("1.2.0"), None)


digests = st.binary(max_size=8).map(Digest.of)
digest_lists = st.lists(digests, unique=True, max_size=3).map(tuple)
versions = st.sampled_from(["0.0.0", "1.2.3-rc.1", "9.9.9+b"]).map(Version.parse)
policies = st.builds(
    PublisherPolicy,
    epoch=st.integers(1, 1_000_000),
    provenance=st.sampled_from(["required", "none"]),
    layouts=st.lists(
        st.builds(replace, st.just(SUPERSEDED), number=st.integers(1, 1_000_000))
        | st.integers(1, 1_000_000).map(
            lambda n: replace(
                CURRENT, number=n, range=Pin.range(f"{n}.x", grammar="npm")
            )
        ),
        unique_by=lambda one: one.number,
        max_size=4,
    ).map(tuple),
    attestations=st.lists(
        st.builds(
            AttestationRule,
            type=st.text("abc:/.", min_size=1, max_size=9),
            keyids=st.just((SIGNER.keyid,)),
            threshold=st.just(1),
        ),
        unique_by=lambda one: one.type,
        max_size=3,
    ).map(tuple),
    keys=st.just((SIGNER,)),
    summary=st.none() | st.just(SUMMARY),
    minimum_version=st.none() | versions,
    revoked_functionaries=st.lists(
        st.builds(
            RevokedFunctionary,
            key=digests.map(lambda one: one.hex),
            survivors=digest_lists,
        ),
        unique_by=lambda one: one.key,
        max_size=3,
    ).map(tuple),
    reinstated=st.lists(
        st.builds(Reinstatement, artifact=digests, up_to=st.integers(1, 2**53 - 1)),
        unique_by=lambda one: one.artifact,
        max_size=3,
    ).map(tuple),
    downgrade_to=digest_lists,
)


@given(policies)
def test_every_policy_survives_its_own_bytes(policy: PublisherPolicy) -> None:
    data = policy.to_bytes()
    assert PublisherPolicy.parse(data) == policy
    assert PublisherPolicy.parse(data).to_bytes() == data


@given(st.integers(0, len(POLICY.to_bytes()) - 2), st.integers(1, 255))
def test_damaged_bytes_parse_or_raise_format_errors(at: int, flip: int) -> None:
    data = bytearray(POLICY.to_bytes())
    data[at] ^= flip
    with suppress(MetadataFormatError):
        assert PublisherPolicy.parse(bytes(data)) != POLICY
