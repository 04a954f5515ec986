"""Signed content of a shape that would hide, exhaust or escape."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    BudgetError,
    CancelledError,
    DigestMismatchError,
    MalformedError,
    UnsafeArchiveError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import Entry, Layer, index_bytes, manifest_bytes
from margo_supplychain.verify.limits import Control, Limits
from tests.attacks.packages import (
    COMPOSE,
    GENERIC,
    artifact,
    component,
    compose,
    member,
    package,
    packed,
)
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Device

EVIL = packed(member("web/compose.yaml", COMPOSE), member("../evil", b"x"))


def installed(tmp_path: Path) -> tuple[World, Device]:
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    return world, device


def list_manifest(
    world: World, document: Any, media_type: str = oci.MANIFEST
) -> Digest:
    """List any JSON as the artifact of 2.0.0."""
    what = world.add_blob(json.dumps(document).encode(), media_type)
    return world.release("2.0.0", artifact=what)


def described(data: bytes, media_type: str = "application/wasm", **more: Any) -> Any:
    return {
        "mediaType": media_type,
        "digest": str(Digest.of(data)),
        "size": len(data),
        **more,
    }


def plain(**changes: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": GENERIC,
        "config": described(b"{}", oci.EMPTY_TYPE),
        "layers": [described(b"x")],
        **changes,
    }


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (plain(artifactType="application/other"), r"\(application/other\), signed is"),
        (plain(artifactType=None), r"\(no artifactType\), signed is"),
        (plain(mediaType=oci.DOCKER_MANIFEST), "docker.*, signed is"),
        (
            {
                "schemaVersion": 2,
                "mediaType": oci.INDEX,
                "artifactType": GENERIC,
                "manifests": [described(b"x", oci.MANIFEST)],
            },
            "image.index.*, signed is",
        ),
        (plain(manifests=[]), "a manifest and an index at once"),
        (plain(layers=[]), "layers is empty"),
        (plain(schemaVersion=1), "schemaVersion"),
        ([], "manifest"),
        (plain(layers=[{**described(b"x"), "digest": "sha256:../../x"}]), "layers"),
        (plain(layers=[{**described(b"x"), "size": -1}]), "layers"),
    ],
)
def test_manifest_of_another_type(tmp_path: Path, document: Any, match: str) -> None:
    """What lies under the signed digest is not the type of thing that was signed."""
    world, device = installed(tmp_path)
    list_manifest(world, document)
    device.source.files = world.publish()
    with refused(device, MalformedError, "malformed", match=match, newer=True):
        device.verify()


@pytest.mark.parametrize(
    "title",
    [
        "../margo.yaml",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "a\\b",
        "C:evil",
        "a\nb",
        "",
        "nul.txt",
        "x" * 600,
    ],
)
def test_title_that_leaves_the_directory(tmp_path: Path, title: str) -> None:
    """Tools write layers under their titles: none may be a way out."""
    world, device = installed(tmp_path)
    layer = described(b"x", annotations={oci.TITLE: title})
    world.add_blob(b"x", "application/wasm")
    list_manifest(world, plain(layers=[layer]))
    device.source.files = world.publish()
    with refused(device, MalformedError, "malformed", match="title", newer=True):
        device.fetch()


def test_manifest_above_the_limit(tmp_path: Path) -> None:
    """A signed size lifts no limit; not a byte of it is asked for."""
    world, device = installed(tmp_path)
    digest = world.release("2.0.0")
    device.source.files = world.publish()
    device.limits = Limits(manifest=64)
    device.source.asked.clear()
    with refused(
        device, MalformedError, "malformed", match="the limit of 64", newer=True
    ):
        device.verify()
    assert str(digest) not in device.source.asked


def nested(world: World, depth: int) -> Descriptor:
    """Serve an index in an index in …, with a manifest at the end."""
    what = artifact(world, [("application/wasm", None, b"deep")])
    for _ in range(depth):
        data = index_bytes([Entry(descriptor=what)], artifact_type=GENERIC)
        what = world.add_blob(data, oci.INDEX)
    return what


def test_index_nested_too_deep(tmp_path: Path) -> None:
    """Seven indexes in one another are followed, eight are an attack."""
    world, device = installed(tmp_path)
    world.release("2.0.0", artifact=nested(world, 7))
    device.source.files = world.publish()
    assert device.install() == "2.0.0"
    world.release("3.0.0", artifact=nested(world, 8))
    device.source.files = world.publish()
    device.verify()
    with refused(
        device, MalformedError, "malformed", match="nests manifests deeper than 8"
    ):
        device.fetch()


def test_index_that_seems_to_list_itself(tmp_path: Path) -> None:
    """No honest digest leads back; a source that says so has other bytes."""
    world, device = installed(tmp_path)
    ghost = Descriptor(media_type=oci.INDEX, digest=Digest.of(b"ghost"), size=100)
    data = index_bytes([Entry(descriptor=ghost)], artifact_type=GENERIC)
    ghost = replace(ghost, size=len(data))  # of three digits, as before
    data = index_bytes([Entry(descriptor=ghost)], artifact_type=GENERIC)
    world.release("2.0.0", artifact=world.add_blob(data, oci.INDEX))
    world.files.blobs[str(ghost.digest)] = data
    device.source.files = world.publish()
    device.verify()
    with refused(device, DigestMismatchError, "digest-mismatch", match="has digest"):
        device.fetch()


def test_index_of_many_platforms(tmp_path: Path) -> None:
    """A multi-platform index is fetched whole, parts of other types included."""
    world, device = installed(tmp_path)
    entries = [
        Entry(descriptor=artifact(world, [("application/wasm", None, one)]))
        for one in (b"amd64", b"arm64")
    ]
    entries.append(Entry(descriptor=world.add_blob(b"{}", "application/json")))
    what = world.add_blob(index_bytes(entries, artifact_type=GENERIC), oci.INDEX)
    world.release("2.0.0", artifact=what)
    device.source.files = world.publish()
    assert device.install() == "2.0.0"


def test_too_many_blobs(tmp_path: Path) -> None:
    """The number of blobs of one release is bounded."""
    world, device = installed(tmp_path)
    layers = [("application/wasm", None, str(one).encode()) for one in range(20)]
    world.release("2.0.0", artifact=artifact(world, layers))
    device.source.files = world.publish()
    device.verify()
    device.limits = Limits(blobs=10)
    with refused(device, BudgetError, "budget", match="more than 10 blobs"):
        device.fetch()
    assert len(device.source.asked) < 60
    device.limits = Limits()
    assert device.install() == "2.0.0"


def test_too_many_bytes(tmp_path: Path) -> None:
    """So is their size in all, before a byte of what is too much is read."""
    world, device = installed(tmp_path)
    big = world.add_blob(bytes(5000), "application/wasm")
    layers = [("application/wasm", None, bytes(5000))]
    world.release("2.0.0", artifact=artifact(world, layers))
    device.source.files = world.publish()
    device.verify()
    device.limits = Limits(content=4000)
    device.source.asked.clear()
    with refused(device, BudgetError, "budget", match="more than 4000 bytes"):
        device.fetch()
    assert str(big.digest) not in device.source.asked


def test_a_call_ends_within_its_budget(tmp_path: Path) -> None:
    """Whatever is signed, a fetch reads no more than its caller allows."""
    world, device = installed(tmp_path)
    layers = [("application/wasm", None, bytes(3 << 20))]
    world.release("2.0.0", artifact=artifact(world, layers))
    device.source.files = world.publish()
    verifier = device.verifier
    release = device.verify()
    seen: list[tuple[str, int, int]] = []
    with refused(device, BudgetError, "budget", match="more than its 2000000 bytes"):
        verifier.fetch(
            release,
            device.staging,
            control=Control(
                max_bytes=2_000_000, progress=lambda *what: seen.append(what)
            ),
        )
    content = verifier.fetch(
        release,
        device.staging,
        control=Control(progress=lambda *what: seen.append(what)),
    )
    big = max(content.digests.values(), key=lambda one: one.size)
    assert seen[-1] == (str(big.digest), big.size, big.size)


def test_component_hidden_as_a_layer(tmp_path: Path) -> None:
    """The package calls a component's manifest a mere file: its archive is checked."""
    world, device = installed(tmp_path)
    evil = compose(world, EVIL)
    data = world.files.blobs[str(evil.digest)]
    hiding = artifact(world, [("application/octet-stream", "notes.bin", data)])
    world.release("2.0.0", artifact=hiding, components=(component(evil),))
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match=r"\.\./evil"):
        device.fetch()


def test_component_under_two_descriptors(tmp_path: Path) -> None:
    """Two components name the same bytes, once as a manifest and once as a file."""
    world, device = installed(tmp_path)
    evil = compose(world, EVIL)
    as_file = Descriptor(
        media_type="application/octet-stream", digest=evil.digest, size=evil.size
    )
    for version, pair in (("2.0.0", (evil, as_file)), ("3.0.0", (as_file, evil))):
        world.release(
            version,
            components=(component(pair[0], "web"), component(pair[1], "more")),
        )
    device.source.files = world.publish()
    device.verify()
    for pin in ("2.0.0", "3.0.0"):
        with refused(
            device, UnsafeArchiveError, "unsafe-archive", match=r"\.\./evil", newer=True
        ):
            device.fetch(pin=pin)


def test_component_under_two_sizes(tmp_path: Path) -> None:
    """One digest has one size; a second one is a lie that somebody may go by."""
    world, device = installed(tmp_path)
    good = compose(world, packed(member("web/compose.yaml", COMPOSE)))
    world.release(
        "2.0.0",
        components=(
            component(good, "web"),
            component(replace(good, size=good.size + 1), "more"),
        ),
    )
    device.source.files = world.publish()
    device.verify()
    with refused(device, MalformedError, "malformed", match="sizes"):
        device.fetch()


def test_component_that_is_an_archive_itself(tmp_path: Path) -> None:
    """A component that is no manifest but the archive itself is checked like one."""
    world, device = installed(tmp_path)
    evil = world.add_blob(EVIL, oci.COMPOSE_LAYER)
    world.release("2.0.0", components=(component(evil),))
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match=r"\.\./evil"):
        device.fetch()


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ],
)
def test_archive_disguised_as_an_image_layer(tmp_path: Path, media_type: str) -> None:
    """A component's archive that calls itself a layer of a container image."""
    world, device = installed(tmp_path)
    package(world, components=[component(compose(world, EVIL, layer=media_type))])
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match=r"\.\./evil"):
        device.fetch()


def test_archive_that_an_index_lists(tmp_path: Path) -> None:
    """An index may list files of any type; archives among them are checked."""
    world, device = installed(tmp_path)
    entry = Entry(
        descriptor=world.add_blob(EVIL, "application/vnd.example.v1.tar+gzip")
    )
    data = index_bytes([entry], artifact_type=GENERIC)
    world.release("2.0.0", artifact=world.add_blob(data, oci.INDEX))
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match=r"\.\./evil"):
        device.fetch()


def test_layer_that_calls_itself_a_manifest(tmp_path: Path) -> None:
    """What a manifest lists is a file, and is never followed into what it names."""
    world, device = installed(tmp_path)
    inner = world.add_blob(EVIL, oci.COMPOSE_LAYER)
    data = manifest_bytes(artifact_type=GENERIC, layers=[Layer(descriptor=inner)])
    outer = artifact(world, [(oci.MANIFEST, None, data)])
    world.release("2.0.0", artifact=outer)
    device.source.files = world.publish()
    content = device.fetch()
    assert inner.digest not in content.digests
    assert Digest.of(data) in content.digests


def test_layers_of_a_container_image(tmp_path: Path) -> None:
    """They hold links and devices by design, and whatever extracts them judges them."""
    world, device = installed(tmp_path)
    layer = "application/vnd.oci.image.layer.v1.tar+gzip"
    image = artifact(
        world,
        [(layer, None, EVIL)],
        kind=None,
        config="application/vnd.oci.image.config.v1+json",
    )
    world.release("2.0.0", artifact=image, kind=None)
    device.source.files = world.publish()
    assert device.install() == "2.0.0"


def test_what_is_there_is_hashed_within_the_budget(tmp_path: Path) -> None:
    """A fetch begun again reads what lies there: it may be stopped all the same."""
    world = World()
    world.release("1.0.0", content=b"x" * 3_000_000)
    world.publish()
    device = world.device(tmp_path)
    verifier = device.verifier
    release = device.verify()
    verifier.fetch(release, device.staging)  # sane
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(CancelledError, match="the caller cancelled"):
        verifier.fetch(release, device.staging, control=Control(cancelled=cancelled))
    with pytest.raises(BudgetError, match="took longer than"):
        verifier.fetch(release, device.staging, control=Control(deadline=timedelta(0)))
