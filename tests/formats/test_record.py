"""Release records and their entries: round trips, limits, and every refusal."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.formats.record import (
    AttestationReference,
    Component,
    Image,
    ReleaseEntry,
    ReleaseRecord,
    Withdrawal,
    profile_fingerprint,
)
from margo_supplychain.formats.versions import Version

CREATED = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
WEB = Component(
    name="web",
    profile="compose-a",
    profile_type="compose",
    repository="oci://registry.example/acme/web",
    revision="1.0.0_a1",
    content=Descriptor.of(b"web", MANIFEST),
)
NGINX = Image(
    component="web",
    reference="docker.io/library/nginx:1.27",
    digest=Digest.of(b"nginx"),
    platforms=("linux/amd64", "linux/arm64/v8"),
)
LINK = AttestationReference(
    type="https://in-toto.io/attestation/link/v0.3",
    step="build",
    digest=Digest.of(b"link"),
    size=400,
)
RECORD = ReleaseRecord(
    name=ReleaseName("acme", "pump-monitor"),
    version=Version.parse("1.2.0+a1"),
    application_version="v1.2 (November)",
    created=CREATED,
    artifact=Descriptor.of(b"package", MANIFEST),
    artifact_type="application/vnd.margo.app.v1+json",
    locations=("oci://registry.example/acme/pump-monitor",),
    components=(WEB,),
    images=(NGINX,),
    closure="complete",
    layout=2,
    attestations=(LINK,),
)


def changed(**fields: Any) -> bytes:
    """Return RECORD's JSON with top-level fields replaced; None removes one."""
    value = RECORD.to_dict()
    for name, content in fields.items():
        value[name] = content
        if content is None:
            del value[name]
    return json.dumps(value).encode()


def test_record_round_trip() -> None:
    data = RECORD.to_bytes()
    assert ReleaseRecord.parse(data) == RECORD
    assert ReleaseRecord.parse(data).to_bytes() == data
    assert RECORD.path == "acme/releases/pump-monitor/1.2.0_a1"


def test_record_of_a_bare_artifact_leaves_optional_fields_out() -> None:
    bare = replace(
        RECORD,
        application_version=None,
        artifact_type=None,
        components=(),
        images=(),
        layout=None,
        attestations=(),
    )
    value = json.loads(bare.to_bytes())
    assert "applicationVersion" not in value
    assert "layout" not in value
    assert "artifactType" not in value["artifact"]
    assert ReleaseRecord.parse(bare.to_bytes()) == bare
    assert bare.profiles() == ()


def test_identity_is_all_that_is_released() -> None:
    # Functionaries sign its digest: another form of these bytes is another `format`.
    said = json.loads(RECORD.to_bytes())
    for name in ("created", "locations", "layout", "attestations"):
        del said[name]
    data = json.dumps(
        said, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    assert RECORD.identity() == data + b"\n"
    assert sorted(said) == [
        *("applicationVersion", "artifact", "closure", "components", "format"),
        *("images", "name", "publisher", "version"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"created": CREATED + timedelta(days=1)},
        {"locations": ()},
        {"layout": None},
        {"attestations": ()},
    ],
)
def test_identity_without_when_where_and_why(change: dict[str, Any]) -> None:
    assert replace(RECORD, **change).identity() == RECORD.identity()


@pytest.mark.parametrize(
    "change",
    [
        {"name": ReleaseName("acme", "pump")},
        {"version": Version.parse("1.2.0+a2")},
        {"application_version": None},
        {"artifact": Descriptor.of(b"other", MANIFEST)},
        {"artifact_type": None},
        {"components": ()},
        {"components": (replace(WEB, repository="oci://registry.example/b/web"),)},
        {"components": (replace(WEB, revision="2"),)},
        {"components": (replace(WEB, profile_type="helm"),)},
        {"images": ()},
        {"images": (replace(NGINX, digest=Digest.of(b"other")),)},
        {"images": (replace(NGINX, platforms=()),)},
        {"closure": "partial"},
    ],
)
def test_identity_of_another_release(change: dict[str, Any]) -> None:
    assert replace(RECORD, **change).identity() != RECORD.identity()


@pytest.mark.parametrize(
    "own",
    [
        f"@{Digest.of(b'other')}",
        f"@sha512:{'ab' * 64}",
        f":1.27@{Digest.of(b'nginx')}@{Digest.of(b'other')}",
        f"@{Digest.of(b'nginx')}x",
        f"@{str(Digest.of(b'nginx')).upper()}",
        "@",
    ],
)
def test_image_whose_reference_names_another_digest(own: str) -> None:
    with pytest.raises(MetadataFormatError, match="names another digest than is"):
        replace(NGINX, reference=f"docker.io/library/nginx{own}")


def test_image_whose_reference_names_its_digest() -> None:
    for digest in (Digest.of(b"nginx"), Digest("sha512", "ab" * 64), None):
        own = digest or Digest.of(b"nginx")
        one = replace(NGINX, reference=f"nginx:1.27@{own}", digest=digest)
        assert one.digest == digest


def test_record_bytes_are_the_agreed_ones() -> None:
    # Devices in the field parse this; a change of form is a change of `format`.
    value = json.loads(RECORD.to_bytes())
    assert value["format"] == 1
    assert value["components"] == [
        {
            "name": "web",
            "profile": "compose-a",
            "profileType": "compose",
            "repository": "oci://registry.example/acme/web",
            "revision": "1.0.0_a1",
            "mediaType": MANIFEST,
            "digest": str(Digest.of(b"web")),
            "size": 3,
        }
    ]
    assert value["attestations"][0]["step"] == "build"
    assert value["images"][0]["platforms"] == ["linux/amd64", "linux/arm64/v8"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "has format 2, newer than 1, which is the newest"),
        ({"format": 0}, "has format 0, expected 1"),
        ({"format": "1"}, r"record\.format is a string, not an integer"),
        ({"format": None}, "has no field 'format'"),
        ({"extra": 1, "more": 2}, "has unknown fields 'extra', 'more'"),
        ({"extra": 1}, "has unknown field 'extra'"),
        ({"publisher": "Acme"}, "publisher 'Acme' is not a name"),
        ({"name": "../x"}, "is not a name"),
        ({"version": "1.0"}, r"release record\.version: .*1\.0"),
        ({"version": "v1.0.0"}, r"release record\.version: "),
        ({"version": 1}, r"record\.version is an integer, not a string"),
        ({"created": "2026-11-21"}, "not a time like"),
        ({"created": "2026-13-21T10:00:00Z"}, "which is no date"),
        ({"closure": "whole"}, "'whole' is neither complete nor partial"),
        ({"layout": 0}, "layout is 0, expected 1 to"),
        ({"layout": True}, r"layout is true, not an integer"),
        ({"locations": "oci://x"}, r"locations is a string, not a list"),
        ({"locations": [1]}, r"locations\[0\] is an integer, not a string"),
        ({"locations": ["x"]}, "'x' is not a URL such as oci://host/path"),
        ({"locations": ["oci://u:p@h/x"]}, "holds credentials"),
        ({"locations": ["oci://h/x", "oci://h/x"]}, "locations names .* twice"),
        ({"locations": ["oci://h/x y"]}, "printable ASCII without spaces"),
        ({"locations": [f"oci://h/{n}" for n in range(33)]}, "more than 32"),
        ({"applicationVersion": ""}, "has 0 characters, expected 1 to 200"),
        ({"applicationVersion": "1\n"}, "not one printable line"),
        ({"applicationVersion": "\u202e1"}, "not one printable line"),
        ({"components": None}, "has no field 'components'"),
        ({"components": [None]}, r"components\[0\] is null, not an object"),
        ({"components": [{}]}, r"components\[0\] has no field 'name'"),
        ({"artifact": {}}, r"artifact has no field 'digest'"),
        ({"artifact": []}, "artifact is a list, not an object"),
        ({"attestations": [{"type": "t", "size": 1}]}, "no field 'digest'"),
    ],
)
def test_record_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        ReleaseRecord.parse(changed(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"digest": "sha1:00"}, r"components\[0\]\.digest: digest 'sha1:00' is not"),
        ({"size": -1}, r"components\[0\]\.mediaType: size -1"),
        ({"size": True}, r"components\[0\]\.size is true, not an integer"),
        ({"mediaType": "x"}, "media type 'x' is not one"),
        ({"revision": "1 0"}, "revision of web is '1 0', not printable ASCII"),
        ({"repository": "oci://ü/x"}, "repository of web is"),
        ({"wait": 1}, r"components\[0\] has unknown field 'wait'"),
        ({"name": " web"}, "component name is ' web', not one printable line"),
    ],
)
def test_component_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        ReleaseRecord.parse(changed(components=[WEB.to_dict() | fields]))


def test_component_twice_in_one_profile_is_refused() -> None:
    with pytest.raises(MetadataFormatError, match="compose-a/web twice"):
        replace(RECORD, components=(WEB, WEB))
    other = replace(WEB, profile="compose-b")
    assert replace(RECORD, components=(WEB, other)).components == (WEB, other)


def test_profile_of_two_types_is_refused() -> None:
    other = replace(WEB, name="db", profile_type="helm")
    with pytest.raises(MetadataFormatError, match="of two types, compose and helm"):
        replace(RECORD, components=(WEB, other))


def test_complete_closure_with_an_unpinned_image_is_refused() -> None:
    loose = replace(NGINX, digest=None)
    with pytest.raises(MetadataFormatError, match=r"complete, but image .*nginx:1\.27"):
        replace(RECORD, images=(loose,))
    partial = replace(RECORD, images=(loose,), closure="partial")
    assert ReleaseRecord.parse(partial.to_bytes()) == partial


def test_image_limits() -> None:
    with pytest.raises(MetadataFormatError, match="names linux/arm twice"):
        replace(NGINX, platforms=("linux/arm", "linux/arm"))
    with pytest.raises(MetadataFormatError, match="has 65 platforms, more than 64"):
        replace(NGINX, platforms=tuple(f"linux/{n}" for n in range(65)))


def test_attestation_limits() -> None:
    with pytest.raises(MetadataFormatError, match="has size 0, expected 1 to"):
        replace(LINK, size=0)
    with pytest.raises(MetadataFormatError, match="attestations names sha256"):
        replace(RECORD, attestations=(LINK, LINK))


def test_record_has_limits_on_counts_and_bytes() -> None:
    components = tuple(replace(WEB, name=f"web-{n}") for n in range(1_001))
    assert len(replace(RECORD, components=components[:-1]).components) == 1_000
    with pytest.raises(MetadataFormatError, match="1001 components, more than 1000"):
        replace(RECORD, components=components)
    data = changed(components=[one.to_dict() for one in components])
    with pytest.raises(MetadataFormatError, match="1001 entries, more than 1000"):
        ReleaseRecord.parse(data)
    images = tuple(replace(NGINX, reference=f"r.example/{n}") for n in range(10_000))
    with pytest.raises(MetadataFormatError, match="more than the limit of 1048576"):
        replace(RECORD, images=images).to_bytes()
    with pytest.raises(MetadataFormatError, match="more than the limit of 1048576"):
        ReleaseRecord.parse(RECORD.to_bytes() + b" " * (1 << 20))


def test_created_must_be_what_the_file_can_hold() -> None:
    with pytest.raises(MetadataFormatError, match="whole seconds with a time zone"):
        replace(RECORD, created=CREATED.replace(tzinfo=None))
    with pytest.raises(MetadataFormatError, match="whole seconds with a time zone"):
        replace(RECORD, created=CREATED.replace(microsecond=1))
    east = timezone(timedelta(hours=3))
    other = replace(RECORD, created=CREATED.astimezone(east))
    assert other.to_bytes() == RECORD.to_bytes()


def test_profiles_are_what_a_deployment_can_compute() -> None:
    triple = (WEB.name, WEB.repository, WEB.revision)
    assert RECORD.profiles() == (profile_fingerprint([triple]),)
    assert len(RECORD.profiles()[0]) == 16
    db = replace(WEB, name="db")
    again = tuple(replace(one, profile="compose-b") for one in (WEB, db))
    both = replace(RECORD, components=(WEB, db, *again))
    turned = replace(RECORD, components=(db, WEB))
    assert both.profiles() == turned.profiles()  # no order, and no profile's id
    assert both.profiles() != RECORD.profiles()


def test_profile_fingerprint_is_fixed() -> None:
    # Signed lists hold it: it may never change.
    assert profile_fingerprint([("a", "oci://h/a", "1.0.0")]) == "0c74731e800fec49"


def test_record_depth_and_duplicates_are_refused() -> None:
    with pytest.raises(MetadataFormatError, match="names 'format' twice"):
        ReleaseRecord.parse(b'{"format":1,"format":1}')
    with pytest.raises(MetadataFormatError, match="nested deeper"):
        ReleaseRecord.parse(b'{"format":' + b"[" * 100 + b"]" * 100 + b"}")
    with pytest.raises(MetadataFormatError, match="not a JSON object"):
        ReleaseRecord.parse(b"[]")


# --- the role's entry ----------------------------------------------------------------


def test_entry_round_trip() -> None:
    entry = RECORD.entry()
    assert entry == ReleaseEntry(
        artifact=RECORD.artifact.digest, profiles=RECORD.profiles()
    )
    assert ReleaseEntry.parse(entry.to_custom(), "x") == entry
    since = CREATED
    gone = replace(
        entry, withdrawn=Withdrawal(reason="leaks", since=since, use=RECORD.version)
    )
    assert ReleaseEntry.parse(gone.to_custom(), "x") == gone
    plain = replace(entry, withdrawn=Withdrawal(reason="leaks", since=since))
    assert "use" not in plain.to_custom()["withdrawn"]
    assert ReleaseEntry.parse(plain.to_custom(), "x") == plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"profiles": ["xyz"]}, "profile 'xyz' is not 16 hex digits"),
        ({"profiles": ["A" * 16]}, "is not 16 hex digits"),
        ({"profiles": ["1" * 16, "0" * 16]}, "not sorted and distinct"),
        ({"profiles": ["0" * 16, "0" * 16]}, "not sorted and distinct"),
        ({"artifact": "latest"}, r"custom of 1\.2\.0\.artifact: digest 'latest:'"),
        ({"withdrawn": None}, "withdrawn is null, not an object"),
        ({"withdrawn": False}, "withdrawn is false, not an object"),
        ({"withdrawn": {"reason": "x"}}, "no field 'since'"),
        (
            {"withdrawn": {"reason": "", "since": "2026-01-01T00:00:00Z"}},
            "reason of a withdrawal has 0 characters",
        ),
        (
            {"withdrawn": {"reason": "x", "since": "2026-01-01T00:00:00Z", "by": "y"}},
            "withdrawn has unknown field 'by'",
        ),
        ({"note": "x"}, r"custom of 1\.2\.0 has unknown field 'note'"),
    ],
)
def test_entry_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        ReleaseEntry.parse(RECORD.entry().to_custom() | fields, "1.2.0")


def test_entry_without_custom_is_refused() -> None:
    with pytest.raises(MetadataFormatError, match="custom of 1 is null, not an object"):
        ReleaseEntry.parse(None, "1")


def test_entry_limits() -> None:
    profiles = tuple(f"{n:016x}" for n in range(1_001))
    with pytest.raises(MetadataFormatError, match="1001 profiles, more than 1000"):
        ReleaseEntry(artifact=RECORD.artifact.digest, profiles=profiles)
    with pytest.raises(MetadataFormatError, match=r"since is .*whole seconds"):
        Withdrawal(reason="x", since=CREATED.replace(microsecond=1))


# --- properties ----------------------------------------------------------------------

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
digests = st.binary(max_size=8).map(Digest.of)
descriptors = st.binary(max_size=8).map(lambda data: Descriptor.of(data, MANIFEST))
components = st.builds(
    Component,
    name=words,
    profile=words,
    profile_type=st.just("helm"),
    repository=words.map(lambda word: f"oci://{word}"),
    revision=words,
    content=descriptors,
)
images = st.builds(
    Image,
    component=words,
    reference=words,
    digest=st.none() | digests,
    platforms=st.lists(words, unique=True, max_size=3).map(tuple),
)
records = st.builds(
    ReleaseRecord,
    name=st.just(RECORD.name),
    version=st.sampled_from(["0.0.0", "1.2.3-rc.1", "9.9.9+b"]).map(Version.parse),
    application_version=st.none() | st.sampled_from(["1.0", "münchen", "v1"]),
    created=st.datetimes(
        min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(2100, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
        timezones=st.just(UTC),
    ).map(lambda when: when.replace(microsecond=0)),
    artifact=descriptors,
    artifact_type=st.none() | words,
    locations=st.lists(words.map(lambda w: f"oci://{w}"), unique=True, max_size=3).map(
        tuple
    ),
    components=st.lists(
        components, unique_by=lambda one: (one.profile, one.name), max_size=4
    ).map(tuple),
    images=st.lists(
        images, unique_by=lambda one: (one.component, one.reference), max_size=4
    ).map(tuple),
    closure=st.just("partial"),
    layout=st.none() | st.integers(1, 1_000_000),
    attestations=st.lists(
        st.builds(
            AttestationReference,
            type=words,
            step=st.none() | words,
            digest=digests,
            size=st.integers(1, 1 << 24),
        ),
        unique_by=lambda one: one.digest,
        max_size=3,
    ).map(tuple),
)


@given(records)
def test_every_record_survives_its_own_bytes(record: ReleaseRecord) -> None:
    data = record.to_bytes()
    assert ReleaseRecord.parse(data) == record
    assert ReleaseRecord.parse(data).to_bytes() == data


@given(st.integers(0, len(RECORD.to_bytes()) - 2), st.integers(1, 255))
def test_damaged_bytes_parse_or_raise_format_errors(at: int, flip: int) -> None:
    data = bytearray(RECORD.to_bytes())
    data[at] ^= flip
    with suppress(MetadataFormatError):
        assert ReleaseRecord.parse(bytes(data)) != RECORD


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*RECORD.to_dict(), "x"]), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(RECORD.to_dict())), json_values)
def test_any_json_in_any_field_parses_or_is_a_format_error(
    field: str, value: object
) -> None:
    document = RECORD.to_dict() | {field: value}
    with suppress(MetadataFormatError):
        ReleaseRecord.parse(json.dumps(document).encode())
