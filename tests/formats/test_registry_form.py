"""Tags never collide, both forms are read, and what is inline is what is named."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import (
    DOCKER_MANIFEST,
    EMPTY,
    EMPTY_BYTES,
    Entry,
    Layer,
    Manifest,
    index_bytes,
    manifest_bytes,
    parse_manifest,
)
from margo_supplychain.formats.registry_form import (
    ATTESTATION,
    MAX_INLINE,
    MAX_WRAPPED,
    TUF_METADATA,
    TUF_TARGET,
    Form,
    attestation_tag,
    content_tag,
    is_as_tagged,
    is_reserved,
    metadata_file,
    metadata_tag,
    target_tag,
    unwrapped,
    wrapped,
    wrapping,
)
from margo_supplychain.formats.tuf_metadata import file_name

# As the OCI distribution specification has it.
REGISTRY_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
HEX = "0123456789abcdef" * 4
LONG = "x" * 200
ROLES = st.one_of(
    st.text(min_size=1, max_size=300),
    st.from_regex(r"[a-z0-9._-]{1,260}", fullmatch=True),
    st.from_regex(r"_[0-9a-f]{63,65}", fullmatch=True),
    st.sampled_from(["root", "timestamp", "acme", "acme.pump-monitor", f"_{HEX}"]),
)
VERSIONS = st.integers(min_value=1, max_value=2**53 - 1)
FILES = st.builds(file_name, ROLES, VERSIONS)


@pytest.mark.parametrize(
    ("filename", "tag"),
    [
        ("timestamp.json", "timestamp"),
        ("12.snapshot.json", "12.snapshot"),
        ("3.root.json", "3.root"),
        ("7.acme.pump-monitor.json", "7.acme.pump-monitor"),
        ("7.acme.-a_b-.json", "7.acme.-a_b-"),
        ("1.timestamp.json", "1.timestamp"),
        (f"7.{'x' * 126}.json", f"7.{'x' * 126}"),
        (f"7.{LONG}.json", f"7._{hashlib.sha256(LONG.encode()).hexdigest()}"),
        ("1.a%2Fb.json", f"1._{hashlib.sha256(b'a%2Fb').hexdigest()}"),
        ("1.a~b.json", f"1._{hashlib.sha256(b'a~b').hexdigest()}"),
        # Else a role of this name would have the tag of another, longer one.
        (f"7._{HEX}.json", f"7._{hashlib.sha256(f'_{HEX}'.encode()).hexdigest()}"),
    ],
)
def test_tag_of_a_metadata_file(filename: str, tag: str) -> None:
    assert metadata_tag(filename) == tag
    assert metadata_file(tag) == (filename if f"{tag}.json" == filename else None)


@pytest.mark.parametrize(
    "filename",
    [
        "root.json",
        "0.root.json",
        "07.root.json",
        "٣.root.json",
        "1.json",
        "3.root",
        "3.root.json\n",
        "timestamp",
        "",
        "t.0123.json",
        f"{10**16}.root.json",
    ],
)
def test_what_is_no_metadata_file(filename: str) -> None:
    with pytest.raises(OciFormatError, match=r"is neither timestamp\.json nor"):
        metadata_tag(filename)


@given(st.one_of(FILES, st.just("timestamp.json")))
@example(f"{2**53 - 1}.{'y' * 300}.json")
@example("1.\udcff.json")
def test_every_tag_is_one(filename: str) -> None:
    tag = metadata_tag(filename)
    assert REGISTRY_TAG.fullmatch(tag) is not None
    # Targets and attestations live in the same repository.
    assert not tag.startswith(("t.", "a.", "sha256-"))
    assert metadata_file(tag) in (None, filename)


@given(FILES, FILES)
@example(f"7._{hashlib.sha256(LONG.encode()).hexdigest()}.json", f"7.{LONG}.json")
@example("1.a%41.json", "1.aA.json")
@example("1.1.root.json", "11.root.json")
def test_two_files_never_share_a_tag(one: str, other: str) -> None:
    assert (metadata_tag(one) == metadata_tag(other)) == (one == other)


@given(st.text(max_size=140))
def test_a_tag_leads_back_to_its_own_file_only(tag: str) -> None:
    filename = metadata_file(tag)
    if filename is not None:
        assert metadata_tag(filename) == tag


@pytest.mark.parametrize("tag", ["1.2.0+a", "", "root", f"3._{HEX}", "x" * 129, "0.a"])
def test_tags_of_other_things(tag: str) -> None:
    assert metadata_file(tag) is None


def test_tags_of_targets_and_attestations() -> None:
    digest = Digest.of(b"x")
    assert target_tag(digest) == f"t.{digest.hex}"
    assert attestation_tag(digest) == f"a.{digest.hex}"
    assert content_tag(digest) == f"c.{digest.hex}"
    long = Digest("sha512", hashlib.sha512(b"x").hexdigest())
    assert REGISTRY_TAG.fullmatch(target_tag(long)) is not None
    assert target_tag(long) != target_tag(digest)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_tag_by_digest_says_what_it_must_name(algorithm: str) -> None:
    def named(data: bytes) -> Descriptor:
        digest = Digest(algorithm, hashlib.new(algorithm, data).hexdigest())
        return Descriptor(media_type="a/b", digest=digest, size=len(data))

    what = named(b"file")
    for kind, tag in (
        (TUF_TARGET, target_tag(what.digest)),
        (ATTESTATION, attestation_tag(what.digest)),
    ):
        layer = Descriptor(media_type=kind, digest=what.digest, size=what.size)
        forms: tuple[Form, ...] = ("1.1", "1.0")
        for form in forms:
            assert is_as_tagged(wrapping(layer, form=form)[0], tag, what)
        other = wrapping(layer)[0]
        assert not is_as_tagged(other, tag, named(b"f1le"))
        assert not is_as_tagged(other, "1.0.0", what)
        assert not is_as_tagged(other, content_tag(what.digest), what)
        assert not is_as_tagged(b"file", tag, what)
    metadata = Descriptor(media_type=TUF_METADATA, digest=what.digest, size=what.size)
    assert not is_as_tagged(wrapping(metadata)[0], target_tag(what.digest), what)
    assert is_as_tagged(b"file", content_tag(what.digest), what)
    assert not is_as_tagged(b"f1le", content_tag(what.digest), what)


@pytest.mark.parametrize("form", ["1.1", "1.0"])
@pytest.mark.parametrize("size", [0, 1, MAX_INLINE, MAX_INLINE + 1])
def test_both_forms_are_read(form: Form, size: int) -> None:
    data = b"x" * size
    manifest, blobs = wrapped(
        data, media_type=TUF_METADATA, form=form, title="3.root.json"
    )
    found = unwrapped(manifest)
    assert found.layer == Descriptor.of(data, TUF_METADATA)
    assert found.inline == (data if size <= MAX_INLINE else None)
    assert (found.kind, found.title) == (TUF_METADATA, "3.root.json")
    assert blobs[-1] == (found.layer, data)
    assert len(manifest) < MAX_WRAPPED // 2

    # What other tools read: every blob that is named is there before.
    parsed = parse_manifest(manifest)
    assert isinstance(parsed, Manifest)
    assert blobs[0] == (parsed.config, EMPTY_BYTES)
    assert parsed.artifact_type == (TUF_METADATA if form == "1.1" else None)
    assert parsed.config.media_type == (
        EMPTY.media_type if form == "1.1" else TUF_METADATA
    )


def test_the_bytes_are_the_same_every_time() -> None:
    first, _ = wrapped(b"{}", media_type=TUF_METADATA, title="1.root.json")
    assert first == wrapped(b"{}", media_type=TUF_METADATA, title="1.root.json")[0]
    other, _ = wrapped(b"{}", media_type=TUF_METADATA, title="2.root.json")
    # One manifest, and so one digest to delete, belongs to one file name.
    assert other != first


def test_a_large_file_is_wrapped_by_its_descriptor_alone() -> None:
    what = Descriptor.of(b"envelope", ATTESTATION)
    manifest, config = wrapping(what)
    assert config == EMPTY
    assert unwrapped(manifest) == (what, None, ATTESTATION, None)


def changed(**members: Any) -> bytes:
    manifest, _ = wrapped(b"{}", media_type=TUF_METADATA)
    document = json.loads(manifest)
    document["layers"][0].update(members)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (changed(data="W10="), "data inline that is not sha256:44136f"),
        (changed(data=""), "data inline that is not sha256:44136f"),
        (changed(data=base64.b64encode(b"{} ").decode()), "is not sha256:44136f"),
        (changed(size=3), "data inline that is not sha256:44136f"),
        (changed(data="e30"), "not base64"),
        (changed(data="e3 0="), "not base64"),
        (changed(data="é30="), "not base64"),
        (changed(data=7), "data inline that is 7"),
        (changed(data=["e30="]), "data inline that is"),
        (changed(digest="sha256:x"), "is not sha256, sha384 or sha512"),
        (changed(annotations={"org.opencontainers.image.title": "../x"}), "relative"),
        (b" " * (MAX_WRAPPED + 1), "more than the limit of 131072"),
        (b"[]", "not a JSON object"),
        (b"{}", "schemaVersion"),
        (index_bytes([Entry(descriptor=EMPTY)]), "no OCI image manifest"),
        (
            manifest_bytes(
                artifact_type=TUF_METADATA,
                layers=[Layer(descriptor=EMPTY), Layer(descriptor=EMPTY)],
            ),
            "has 2 layers, expected one",
        ),
        (
            changed().replace(
                b"application/vnd.oci.image.manifest.v1+json", DOCKER_MANIFEST.encode()
            ),
            "no OCI image manifest",
        ),
    ],
)
def test_manifests_that_wrap_nothing(manifest: bytes, text: str) -> None:
    with pytest.raises(OciFormatError, match=text):
        unwrapped(manifest, what="timestamp")


def test_inline_data_of_another_algorithm() -> None:
    digest = f"sha512:{hashlib.sha512(b'{}').hexdigest()}"
    assert unwrapped(changed(digest=digest)).inline == b"{}"
    with pytest.raises(OciFormatError, match="is not sha512"):
        unwrapped(changed(digest=digest, data="W10="))


@given(st.binary(max_size=300))
def test_other_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(OciFormatError):
        unwrapped(data)


@given(st.binary(max_size=2000), st.sampled_from(["1.1", "1.0"]))
def test_round_trip(data: bytes, form: Form) -> None:
    manifest, _ = wrapped(data, media_type=TUF_METADATA, form=form)
    assert unwrapped(manifest).inline == data


def test_a_title_is_a_safe_file_name() -> None:
    with pytest.raises(OciFormatError, match="holds a control character"):
        wrapped(b"{}", media_type=TUF_METADATA, title="3.a:b.json")


@pytest.mark.parametrize(
    ("tag", "reserved"),
    [
        ("timestamp", True),
        ("1.root", True),
        ("12.acme.pump-monitor", True),
        (f"3._{'0' * 64}", True),
        ("1.2.0", True),
        (f"c.{'0' * 64}", True),
        (f"c.{'0' * 63}", False),
        ("latest", False),
        ("v1.2.0", False),
        ("0.9.0", False),
        ("acme/pump-monitor:1.2.0", False),
    ],
)
def test_tags_that_content_has_nowhere_beside_metadata(
    tag: str, *, reserved: bool
) -> None:
    assert is_reserved(tag) is reserved
