"""The walk over an artifact's blobs: order, limits, and every refusal."""

from __future__ import annotations

import json

import pytest

from margo_supplychain.errors import (
    FormatError,
    OciFormatError,
    UnknownTargetError,
)
from margo_supplychain.formats.closure import Part, children, platform_name, walk
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import (
    DOCKER_MANIFEST,
    EMPTY,
    INDEX,
    MANIFEST,
    Entry,
    Layer,
    index_bytes,
    manifest_bytes,
)

WASM = "application/wasm"


class Blobs(dict[Digest, bytes]):
    """Blobs by digest, and which manifests were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Digest] = []

    def add(self, data: bytes, media_type: str) -> Descriptor:
        what = Descriptor.of(data, media_type)
        self[what.digest] = data
        return what

    def manifest(self, *layers: bytes) -> Descriptor:
        found = [Layer(descriptor=self.add(data, WASM)) for data in layers]
        return self.add(manifest_bytes(artifact_type=WASM, layers=found), MANIFEST)

    def index(self, *entries: Descriptor) -> Descriptor:
        found = [Entry(descriptor=one) for one in entries]
        return self.add(index_bytes(found), INDEX)

    def read(self, what: Descriptor) -> bytes:
        self.asked.append(what.digest)
        return self[what.digest]


def test_walk_of_a_manifest_ends_with_the_manifest() -> None:
    blobs = Blobs()
    top = blobs.manifest(b"one", b"two")
    assert list(walk(top, blobs.read)) == [
        Part("config", EMPTY),
        Part("layer", Descriptor.of(b"one", WASM)),
        Part("layer", Descriptor.of(b"two", WASM)),
        Part("manifest", top),
    ]


def test_walk_of_an_index_names_shared_blobs_once_and_parts_before_parents() -> None:
    blobs = Blobs()
    one, two = blobs.manifest(b"shared", b"one"), blobs.manifest(b"shared", b"two")
    extra = blobs.add(b"<svg/>", "image/svg+xml")
    top = blobs.index(one, two, blobs.index(one), extra)
    parts = list(walk(top, blobs.read))
    order = [part.descriptor.digest for part in parts]
    assert len(order) == len(set(order))
    assert order.index(one.digest) < order.index(two.digest) < order.index(top.digest)
    assert order[-1] == top.digest
    assert Part("layer", extra) in parts
    assert len(blobs.asked) == len(set(blobs.asked)) == 4


def test_walk_refuses_deep_nesting() -> None:
    blobs = Blobs()
    top = blobs.manifest(b"x")
    for _ in range(7):
        top = blobs.index(top)
    assert len(list(walk(top, blobs.read))) == 10
    with pytest.raises(OciFormatError, match="nests manifests deeper than 8"):
        list(walk(blobs.index(top), blobs.read))


def test_walk_refuses_too_many_parts() -> None:
    blobs = Blobs()
    manifests = [
        blobs.manifest(*(f"{n}.{m}".encode() for m in range(1000))) for n in range(10)
    ]
    with pytest.raises(OciFormatError, match="names more than 10000 parts"):
        list(walk(blobs.index(*manifests), blobs.read))


def test_walk_refuses_what_is_no_manifest() -> None:
    blobs = Blobs()
    with pytest.raises(OciFormatError, match="is application/wasm, expected a mani"):
        list(walk(blobs.add(b"\0asm", WASM), blobs.read))


def test_walk_refuses_a_manifest_above_4_mib_before_reading_it() -> None:
    blobs = Blobs()
    huge = Descriptor(media_type=MANIFEST, digest=Digest.of(b"x"), size=(4 << 20) + 1)
    with pytest.raises(OciFormatError, match="has 4194305 bytes, more than 4194304"):
        list(walk(huge, blobs.read))
    with pytest.raises(OciFormatError, match="has 4194305 bytes, more than 4194304"):
        list(walk(blobs.index(huge), blobs.read))
    assert huge.digest not in blobs.asked


def test_manifest_must_be_what_its_descriptor_promised() -> None:
    blobs = Blobs()
    found = blobs.manifest(b"x")
    for media_type in (INDEX, DOCKER_MANIFEST):
        other = Descriptor(media_type=media_type, digest=found.digest, size=found.size)
        with pytest.raises(
            OciFormatError, match=r"image\.manifest\.v1\+json, expected "
        ):
            children(other, blobs[found.digest])


def test_one_digest_has_one_size_and_one_role() -> None:
    blobs = Blobs()
    inner = blobs.manifest(b"x")
    longer = Descriptor(media_type=MANIFEST, digest=inner.digest, size=inner.size + 1)
    with pytest.raises(OciFormatError, match="has sizes"):
        list(walk(blobs.index(inner, longer), blobs.read))
    hidden = Descriptor(media_type=WASM, digest=inner.digest, size=inner.size)
    with pytest.raises(OciFormatError, match="is a manifest and a layer at once"):
        list(walk(blobs.index(inner, hidden), blobs.read))
    with pytest.raises(OciFormatError, match="is a layer and a manifest at once"):
        list(walk(blobs.index(hidden, inner), blobs.read))


def test_subject_is_no_part_of_the_closure() -> None:
    blobs = Blobs()
    other = blobs.manifest(b"x")
    layer = Layer(descriptor=blobs.add(b"sig", WASM))
    data = manifest_bytes(artifact_type=WASM, layers=[layer], subject=other)
    top = blobs.add(data, MANIFEST)
    assert other.digest not in [p.descriptor.digest for p in walk(top, blobs.read)]
    assert json.loads(data)["subject"]["digest"] == str(other.digest)


# --- platforms -----------------------------------------------------------------------


def platform_of(text: str | None) -> dict[str, dict[str, str]]:
    if text is None:
        return {}
    names = ("os", "architecture", "variant")
    return {"platform": dict(zip(names, text.split("/"), strict=False))}


def taken(listed: list[str | None], *asked: str) -> list[str | None]:
    """Return which entries of an index of `listed` are walked for `asked`."""
    blobs = Blobs()
    found = {blobs.manifest(str(one).encode()): one for one in listed}
    entries = [
        Entry(descriptor=what, other=platform_of(one)) for what, one in found.items()
    ]
    top = blobs.add(index_bytes(entries), INDEX)
    parts = walk(top, blobs.read, platforms=frozenset(asked))
    walked = [one.descriptor for one in parts if one.role == "manifest"]
    assert walked.pop() == top
    assert set(blobs.asked) == {top.digest, *(one.digest for one in walked)}
    return [found[one] for one in walked]


@pytest.mark.parametrize(
    ("listed", "asked", "expected"),
    [
        (["linux/amd64", "linux/arm64"], ["linux/arm64"], ["linux/arm64"]),
        (
            ["linux/amd64", "linux/arm64", "windows/amd64"],
            ["windows/amd64", "linux/amd64"],
            ["linux/amd64", "windows/amd64"],
        ),
        # Without a platform: for all of them.
        (["linux/amd64", None], ["linux/amd64"], ["linux/amd64", None]),
        ([None], ["linux/arm64"], [None]),
        (["linux/amd64", None, "linux/s390x"], ["linux/s390x"], [None, "linux/s390x"]),
        # Variants.
        (
            ["linux/arm/v6", "linux/arm/v7", "linux/arm64"],
            ["linux/arm"],
            ["linux/arm/v6", "linux/arm/v7"],
        ),
        (["linux/arm/v6", "linux/arm/v7"], ["linux/arm/v7"], ["linux/arm/v7"]),
        (["linux/arm64/v8"], ["linux/arm64"], ["linux/arm64/v8"]),
        (["linux/arm64"], ["linux/arm64/v8"], ["linux/arm64"]),
        (["linux/arm64/v8", "linux/arm64/v9"], ["linux/arm64/v9"], ["linux/arm64/v9"]),
        # One of several is enough; what comes beside images is for no platform asked.
        (["linux/amd64", "unknown/unknown"], ["linux/amd64", "a/b"], ["linux/amd64"]),
    ],
)
def test_the_platforms_asked_for(
    listed: list[str | None], asked: list[str], expected: list[str | None]
) -> None:
    assert taken(listed, *asked) == expected


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        (["linux/amd64"], ["linux/arm64"]),
        (["linux/amd64", None], ["linux/arm64"]),
        (["linux/arm64"], ["linux/arm"]),
        (["linux/arm"], ["linux/arm/v7"]),
        (["linux/arm64/v8"], ["linux/arm64/v9"]),
    ],
)
def test_none_of_the_platforms(listed: list[str | None], asked: list[str]) -> None:
    with pytest.raises(
        UnknownTargetError, match=f"has nothing for {asked[0]}, only for {listed[0]}"
    ) as caught:
        taken(listed, *asked)
    assert caught.value.name.startswith("sha256:")
    assert "or for all" in (caught.value.hint or "")


def test_a_manifest_is_for_all_platforms() -> None:
    blobs = Blobs()
    top = blobs.manifest(b"one")
    assert len(list(walk(top, blobs.read, platforms=frozenset({"linux/arm64"})))) == 3


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm/v7", "wasip1/wasm"])
def test_a_platform(text: str) -> None:
    assert platform_name(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "linux", "linux/", "/amd64", "Linux/amd64", "a/b/c/d", "a/b\n", "a/" * 50],
)
def test_no_platform(text: str) -> None:
    with pytest.raises(FormatError, match="is not os/architecture"):
        platform_name(text)
