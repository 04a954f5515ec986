"""`repo check PLACE --repair`: copies in directories, tars and a real registry."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Digest
from margo_supplychain.transport.opening import open_sink
from margo_supplychain.transport.tagged_sink import TaggedSink
from tests.cli.running import run, run_json, validate
from tests.cli.vendor import NAME, Vendor
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.servers import DockerRegistry

IMAGE = oci.manifest_bytes(
    layers=[oci.Layer(descriptor=oci.EMPTY)], artifact_type="application/vnd.example"
)


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    vendor = Vendor(place, secret)
    vendor.application()
    vendor.publish("1.2.0")
    return vendor


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def pushed(vendor: Vendor, registry: DockerRegistry) -> str:
    at = f"oci://{registry.host}/{vendor.place.name.lower()}/trust"
    ran = run("repo", "push", at)
    assert ran.status == 0, ran.err
    return at


def lose(at: str, tag: str, registry: DockerRegistry) -> None:
    sink = open_sink(at, network=registry.network())
    assert isinstance(sink, TaggedSink)
    sink._writer.delete_manifest(Digest.of(sink._writer.manifest(tag)[0]))


def test_a_whole_copy(vendor: Vendor, registry: DockerRegistry) -> None:
    at = pushed(vendor, registry)
    ran = run("repo", "check", at)
    assert ran.status == 0, ran.err
    assert ran.out.startswith(f"verified {at}: no problem found\n")
    assert "looked at presence and size" in ran.out
    assert run("repo", "push", "oci-archive:stick.tar").status == 0
    result = run_json("repo-check", "repo", "check", "oci-archive:stick.tar")["result"]
    assert result["repository"] == "oci-archive:stick.tar"
    assert result["report"]["steps"][4]["facts"]["blobs"] == 11
    assert (result["restored"], result["warnings"]) == ([], [])
    assert run("repo", "push", "out").status == 0
    assert run("repo", "check", "out").status == 0


def test_what_a_registry_lost(vendor: Vendor, registry: DockerRegistry) -> None:
    at = pushed(vendor, registry)
    lose(at, "1.targets", registry)
    lose(at.rpartition("/")[0] + "/historian", "1.1.0", registry)
    ran = run("repo", "check", at)
    assert ran.status == 3
    assert ran.out == f"rejected repository {at}\n"
    assert "1.targets" in ran.err
    assert "What is missing comes back with --repair" in ran.err
    ran = run("repo", "check", at, "--repair")
    assert ran.status == 0, ran.err
    assert "  put back: 2 parts\n    1.targets.json\n" in ran.out
    assert run("repo", "check", at, "--repair").out.count("put back") == 0


def test_a_name_that_went_to_something_else(
    vendor: Vendor, registry: DockerRegistry
) -> None:
    """An image was pushed under the tag of a component: nothing keeps that any more."""
    at = pushed(vendor, registry)
    historian = at.rpartition("/")[0] + "/historian"
    sink = open_sink(historian, network=registry.network())
    assert isinstance(sink, TaggedSink)
    sink._writer.put_blob(oci.EMPTY, io.BytesIO(oci.EMPTY_BYTES))
    sink._writer.put_manifest(IMAGE, oci.MANIFEST, tag="1.1.0")
    ran = run("repo", "check", at)
    assert ran.status == 3
    assert f"{historian}:1.1.0 names " in ran.err
    ran = run("repo", "check", at, "--repair")
    assert ran.status == 0, ran.err
    assert run("repo", "check", at).status == 0


def test_repair_from_somewhere_else(vendor: Vendor) -> None:
    assert run("repo", "push", "out").status == 0
    assert run("repo", "push", "oci-layout:other").status == 0
    shutil.rmtree("out/blobs")
    ran = run("repo", "check", "out", "--repair", "--from", "nowhere")
    assert ran.status == 3
    document = run_json(
        "repo-check",
        *("repo", "check", "out", "--repair", "--from", "oci-layout:other"),
    )
    assert len(document["result"]["restored"]) == 11
    assert run("repo", "check", "out").status == 0


def test_your_own_repository(vendor: Vendor) -> None:
    assert run("repo", "push", "out").status == 0
    (vendor.place / "trust/metadata/1.targets.json").unlink()
    ran = run("repo", "check", "--repair")
    assert ran.status == 3
    assert "note: nothing was put back" in ran.err
    ran = run("repo", "check", "--repair", "--from", "out")
    assert ran.status == 0, ran.err
    vendor.must("repo", "refresh")


def test_without_a_timestamp(vendor: Vendor) -> None:
    assert run("repo", "push", "out").status == 0
    (vendor.place / "out/metadata/timestamp.json").unlink()
    ran = run("--format", "json", "repo", "check", "out", "--repair")
    assert ran.status == 3
    validate(ran.json, "error")
    assert run("repo", "push", "out").status == 0
    assert run("repo", "check", "out").status == 0


def test_a_copy_of_some_releases(vendor: Vendor) -> None:
    vendor.publish("2.0.0")
    assert run("repo", "push", "out", "--name", NAME, "--pin", "^1").status == 0
    assert run("repo", "check", "out").status == 3
    assert run("repo", "check", "out", "--pin", "^1").status == 0


def test_a_registry_with_a_memory_or_a_root(
    vendor: Vendor, registry: DockerRegistry
) -> None:
    at = pushed(vendor, registry)
    shutil.move("trust/metadata/1.root.json", "root.json")
    shutil.rmtree("trust")
    toml = vendor.place / "margo-supplychain.toml"
    text = toml.read_text().replace('repo = "trust"', f'repo = "{at}"')
    toml.write_text(text)
    assert run("repo", "check").status == 0  # by the memory
    shutil.rmtree(".margo-supplychain")
    toml.unlink()
    ran = run("repo", "check", at)
    assert ran.status == 2
    assert "--root FILE" in ran.err
    assert run("repo", "check", at, "--root", "root.json").status == 0


def test_a_tar_and_a_memory_alone(vendor: Vendor) -> None:
    assert run("repo", "push", "oci-archive:stick.tar").status == 0
    (vendor.place / "margo-supplychain.toml").unlink()
    state = ("--state", ".margo-supplychain/state")
    ran = run("repo", "check", "oci-archive:stick.tar", *state)
    assert ran.status == 0, ran.err


def test_usage(vendor: Vendor) -> None:
    ran = run("repo", "check", "--from", "out")
    assert ran.status == 2
    assert ran.err.startswith("error: --from goes with --repair")
    for place in ("oci-archive:nowhere.tar", "nowhere.tar", "oci-layout:nowhere"):
        ran = run("repo", "check", place)
        assert ran.status == 2
        assert ran.err.startswith(f"error: {place} does not exist [format]\n")
    assert run("repo", "push", "oci-archive:stick.tar").status == 0
    (vendor.place / "margo-supplychain.toml").unlink()
    for place in ("oci-archive:stick.tar", "stick.tar"):
        ran = run("repo", "check", place)
        assert ran.status == 2
        assert ran.err.startswith(f"error: --root FILE is missing: {place} is not")
    ran = run("repo", "check", "trust")
    assert ran.status == 0
    shutil.rmtree("trust/authoring")
    ran = run("repo", "check", "trust")
    assert "previous state" not in ran.out, "nothing is known of one"
