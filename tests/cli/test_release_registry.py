"""Publishing into a registry, and adopting what lies in one; on Debian's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.formats.closure import walk
from margo_supplychain.transport.opening import open_sink, open_source
from tests import fixtures
from tests.cli.running import run, run_json
from tests.cli.vendor import NAME, Vendor
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from tests.registries.servers import RunningRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def done(*arguments: str) -> None:
    """Run a command that opens no key and has to work."""
    ran = run(*arguments)
    assert ran.status == 0, ran.err


class RegistryVendor(Vendor):
    """A vendor whose repository and applications lie in a registry."""

    host: str
    parent: str

    @property
    def trust(self) -> str:
        return f"{self.parent}/trust"

    def move(self, *more: str) -> None:
        """Make a repository in a directory, and copy it to the registry."""
        self.application()
        for name in more:
            self.must("app", "add", name, "--release-key", "ci.pub")
        done("repo", "push", self.trust)
        settings = self.place / "margo-supplychain.toml"
        text = settings.read_text().replace('repo = "trust"', f'repo = "{self.trust}"')
        settings.write_text(text)

    def own(self, name: str = "pump-monitor") -> Path:
        """Return a package whose components lie in this registry."""
        package = self.package(name)
        file = package / "margo.yaml"
        text = file.read_text().replace("oci://registry.example/acme", self.parent)
        file.write_text(text)
        return package


@pytest.fixture
def vendor(
    place: Path,
    secret: str,
    registry: RunningRegistry,
    request: pytest.FixtureRequest,
) -> RegistryVendor:
    found = RegistryVendor(place, secret)
    found.host = registry.host
    # Tests share the registry, and each has names of its own.
    found.parent = f"oci://{registry.host}/{request.node.name.split('[')[0]}/acme"
    return found


def test_publish_as_printed_in_the_first_hour(vendor: RegistryVendor) -> None:
    vendor.move()
    vendor.own()
    vendor.build()
    ran = vendor.must("release", "publish", "dist")
    lines = ran.out.splitlines()
    assert lines[0] == f"published {NAME} 1.2.0"
    assert lines[1].startswith("  record   acme/releases/pump-monitor/1.2.0  in role")
    assert lines[2] == (
        "  checked  as a device would, from root v1 and from the previous state"
    )
    assert lines[3].startswith(f"  where    {vendor.trust}  (")
    assert " blobs new, 0 already there)" in lines[3]
    assert lines[4].startswith("  fresh    timestamp v")
    again = vendor.must("release", "publish", "dist")
    assert again.out.startswith(f"published {NAME} 1.2.0 before; nothing changed\n")
    shown = run_json("release-show-one", "release", "show", NAME, "1.2.0")["result"]
    assert shown["record"]["locations"] == [f"{vendor.parent}/pump-monitor"]


def test_the_repository_may_be_the_last_argument(vendor: RegistryVendor) -> None:
    vendor.application()
    vendor.own()
    done("repo", "push", vendor.trust)
    vendor.build()
    ran = vendor.must("release", "publish", "dist", vendor.trust)
    assert f"  where    {vendor.trust}  (" in ran.out
    ran = vendor.sign("release", "publish", vendor.trust)
    assert ran.status == 2
    assert "is a repository: which DIST is published there?" in ran.err


def test_a_root_or_a_memory_is_needed(
    vendor: RegistryVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.move()
    settings = vendor.place / "margo-supplychain.toml"
    lines = settings.read_text().splitlines()
    settings.write_text("\n".join(one for one in lines if "state" not in one))
    ran = vendor.sign("repo", "refresh")
    assert ran.status == 2
    assert f"{vendor.trust} can't be believed by itself" in ran.err
    assert "--root FILE" in ran.err
    root = "trust/metadata/1.root.json"
    vendor.must("repo", "refresh", "--root", root)
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_ROOT", root)
    vendor.must("repo", "refresh")


def test_an_old_copy_is_not_signed_on_top_of(vendor: RegistryVendor) -> None:
    """Somebody put last week's timestamp back, and the memory knows better."""
    vendor.move()
    trust = open_sink(vendor.trust)
    old = trust.metadata("timestamp.json", limit=1 << 20)
    vendor.must("repo", "refresh")
    trust.put_metadata("timestamp.json", old)
    # Its witness alone would bring the newer state back.
    ran = vendor.must("repo", "refresh")
    assert "had an older timestamp than v3, which was published" in ran.err
    trust.put_metadata("timestamp.json", old)
    for name in sorted(trust.metadata_files()):
        if name.endswith(".timestamp.json"):
            trust.remove_metadata(name)
    ran = vendor.sign("repo", "refresh")
    assert ran.status == 3
    assert "[rollback]" in ran.err
    assert "shows an older state than your memory" in ran.err
    assert trust.metadata("timestamp.json", limit=1 << 20) == old


def test_every_command_works_there(vendor: RegistryVendor) -> None:
    vendor.move()
    vendor.own()
    vendor.publish("1.2.0")
    vendor.publish("1.3.0")
    vendor.must("release", "withdraw", NAME, "1.3.0", "--reason", "leaks")
    vendor.must("app", "policy", NAME, "--reinstate", "1.3.0")
    vendor.must("app", "add", "acme/valve", "--release-key", "ci.pub")
    vendor.must("repo", "refresh")
    assert run("app", "show", NAME).status == 0
    assert "1.3.0" in run("release", "show", NAME).out
    assert run("repo", "status", "--within", "1d").status == 0
    ran = run("repo", "check")
    assert ran.status == 0, ran.err


def test_a_version_that_names_other_bytes_is_refused(vendor: RegistryVendor) -> None:
    vendor.move()
    vendor.own()
    vendor.publish("1.2.0")
    file = vendor.place / "pump-monitor" / "margo.yaml"
    file.write_text(file.read_text().replace("Pump Monitor", "Other Monitor"))
    vendor.build("1.2.0", "other")
    ran = vendor.sign("release", "publish", "other")
    assert ran.status == 2
    assert "1.2.0 exists with other bytes" in ran.err
    # Somebody pushed another thing under the next version's tag.
    vendor.build("1.4.0", "next")
    thing = fixtures.wasm_layout(vendor.place / "layout")
    vendor.must("app", "add", "acme/thing", "--release-key", "ci.pub")
    vendor.must(
        *("release", "adopt", f"layout@{thing.digest}", "--name", "acme/thing"),
        *("--version", "1.4.0", "--location", f"{vendor.parent}/pump-monitor"),
    )
    ran = vendor.sign("release", "publish", "next")
    assert ran.status == 2
    assert f"{vendor.parent}/pump-monitor:1.4.0 is {thing.digest.short}" in ran.err
    assert "tags are never moved" in ran.err


def test_a_component_of_somebody_else_must_be_there(vendor: RegistryVendor) -> None:
    vendor.move()
    package = vendor.own()
    file = package / "margo.yaml"
    elsewhere = f"oci://{vendor.host}/somebody/historian"
    file.write_text(file.read_text().replace(f"{vendor.parent}/historian", elsewhere))
    vendor.build()
    ran = vendor.sign("release", "publish", "dist")
    assert ran.status == 2
    assert f"component historian is not in {elsewhere} by its digest" in ran.err
    assert "push it there yourself" in ran.err
    shown = json.loads(run("--format", "json", "release", "show", NAME).out)
    assert shown["result"]["releases"] == []


def test_a_private_registry(
    place: Path,
    secret: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Certificates of one's own, and a login from Docker's configuration."""
    directory = tmp_path_factory.mktemp("private")
    with docker_registry(directory, auth="basic", tls="mutual") as private:
        vendor = RegistryVendor(place, secret)
        vendor.host, vendor.parent = private.host, f"oci://{private.host}/acme"
        vendor.application()
        settings = place / "margo-supplychain.toml"
        told = settings.read_text()
        assert private.authority is not None
        assert private.client is not None
        monkeypatch.setenv("DOCKER_CONFIG", str(private.docker_config.parent))
        ran = run("repo", "push", vendor.trust)
        assert ran.status == 4
        settings.write_text(
            told.replace('repo = "trust"', f'repo = "{vendor.trust}"')
            + f'[registry."{private.host}"]\n'
            + f'ca_file = "{private.authority.file}"\n'
            + f'certificate = "{private.client.certificate}"\n'
            + f'private_key = "{private.client.key}"\n'
        )
        done("repo", "push", vendor.trust, "--repo", "trust")
        vendor.own()
        vendor.publish("1.2.0")
        assert (
            f"{vendor.parent}/pump-monitor" in run("release", "show", NAME, "1.2.0").out
        )


# --- adopting ------------------------------------------------------------------------


def put(vendor: RegistryVendor, name: str, version: str) -> Descriptor:
    """Push a thing without any signature, as a build of long ago did."""
    layout = vendor.place / f"layout-{name}-{version}"
    what = fixtures.wasm_layout(layout)
    source = open_source(f"oci-layout:{layout}")
    sink = open_sink(f"{vendor.parent}/{name}")
    for part in walk(what, lambda one: read_checked(source, one)):
        if part.role != "manifest":
            with source.blob(part.descriptor) as stream:
                sink.put_blob(part.descriptor, stream)
    sink.put_manifest(what, read_checked(source, what), tag=version)
    return what


def test_adopt_what_lies_in_a_registry(vendor: RegistryVendor) -> None:
    vendor.move("acme/thing")
    what = put(vendor, "thing", "v7")
    reference = f"{vendor.parent}/thing@{what.digest}"
    named = ("--name", "acme/thing", "--version", "7.0.0")
    adopt = ("release", "adopt", reference, *named)
    document = vendor.sign_json("release-publish", *adopt)["result"]
    assert (document["blobs"]["new"], document["changed"]) == (0, True)
    assert document["blobs"]["there"] > 0
    shown = run_json("release-show-one", "release", "show", "acme/thing", "7.0.0")
    assert shown["result"]["record"]["locations"] == [f"{vendor.parent}/thing"]
    # Nothing was pushed, not even a tag.
    listed = candidates(f"{vendor.parent}/thing")
    assert [one["tag"] for one in listed] == ["v7"]
    ran = vendor.sign(
        *("release", "adopt", f"{vendor.parent}/thing:v7", "--name", "acme/thing"),
        *("--version", "8.0.0"),
    )
    assert ran.status == 2
    assert "is not PLACE@sha256:…: a tag can move" in ran.err


def test_candidates(vendor: RegistryVendor) -> None:
    vendor.move("acme/thing")
    vendor.own()
    vendor.publish("1.2.0")
    what = put(vendor, "thing", "1.0.0")
    put(vendor, "thing", "latest")
    url = f"{vendor.parent}/thing"
    ran = run("release", "adopt", url, "--from-tags", "--name", "acme/thing")
    assert ran.status == 0, ran.err
    command = f"    margo-supplychain release adopt {url}@{what.digest}"
    command += " --name acme/thing --version"
    shown = f"{what.digest.short}  artifact, {size_of(ran.out)},"
    assert ran.out.splitlines() == [
        f"2 tags in {url}; nothing is signed: review, adopt by digest",
        f"  1.0.0  {shown} 1.0.0",
        "    note: latest names the same bytes: adopt them once",
        f"{command} 1.0.0",
        f"  latest  {shown.removesuffix(',')}",
        "    note: tag latest is no SemVer version: say which one it is",
        "    note: 1.0.0 names the same bytes: adopt them once",
        f"{command} VERSION",
    ]
    vendor.must(
        *("release", "adopt", f"{url}@{what.digest}", "--name", "acme/thing"),
        *("--version", "1.0.0"),
    )
    ran = run("release", "adopt", url, "--from-tags", "--name", "acme/thing")
    assert "    released as 1.0.0" in ran.out
    # A package shows what its components' tags name, as a lock to review.
    found = candidates(f"{vendor.parent}/pump-monitor")
    assert [one["kind"] for one in found] == ["package"]
    assert {one["name"] for one in found[0]["components"]} == {"web-stack", "historian"}
    assert run("release", "adopt", url, "--from-tags", "--version", "7.0.0").out == (
        f"2 tags in {url}; nothing is signed: review, adopt by digest\n"
        "  and 2 more tags\n"
    )
    assert all(one["digest"] for one in found[0]["components"])
    ran = run("release", "adopt", f"{url}@{what.digest}", "--from-tags")
    assert ran.status == 2
    assert "name the repository alone" in ran.err


def test_candidates_of_images_and_of_trust_metadata(vendor: RegistryVendor) -> None:
    vendor.move("acme/thing")
    layout = vendor.place / "layout-image"
    what = fixtures.image_index_layout(layout)
    source, url = open_source(f"oci-layout:{layout}"), f"{vendor.parent}/image"
    sink = open_sink(url)
    for part in walk(what, lambda one: read_checked(source, one)):
        if part.role == "manifest":
            data = read_checked(source, part.descriptor)
            top = "1.0.0" if part.descriptor == what else None
            sink.put_manifest(part.descriptor, data, tag=top)
        else:
            with source.blob(part.descriptor) as stream:
                sink.put_blob(part.descriptor, stream)
    (found,) = candidates(url)
    assert found["platforms"] == ["linux/amd64", "linux/arm64"]
    ran = run("release", "adopt", url, "--from-tags")
    assert "  image index, " in ran.out
    assert ", linux/amd64, linux/arm64, 1.0.0\n" in ran.out
    ran = run("release", "adopt", vendor.trust, "--from-tags")
    assert ran.status == 0
    assert "release adopt" not in ran.out
    assert " tags of trust metadata, which is nothing to adopt\n" in ran.out


def candidates(url: str) -> list[dict[str, Any]]:
    """Return what the tags of a repository name, as the document has it."""
    document = run_json("release-candidates", "release", "adopt", url, "--from-tags")
    found: list[dict[str, Any]] = document["result"]["candidates"]
    return found


def size_of(text: str) -> str:
    return text.partition("artifact, ")[2].partition(",")[0]


def test_a_lock_to_review(vendor: RegistryVendor) -> None:
    """What is needed to adopt a package is written down, and asked for."""
    vendor.move("acme/copy")
    vendor.own()
    vendor.publish("1.2.0")
    url = f"{vendor.parent}/pump-monitor"
    listing = ("release", "adopt", url, "--from-tags", "--version", "1.2.0")
    text = run(*listing).out
    write = f"{' '.join(listing)} --write-lock components.lock"
    assert f"    margo-supplychain {write}\n" in text
    adopt = text.splitlines()[-1].split()[1:]
    assert adopt[-2:] == ["--components-lock", "components.lock"]
    assert "--name acme/pump-monitor --version 1.2.0" in " ".join(adopt)
    # Without it the version would be spent on a release that nobody can install.
    ran = vendor.sign(*adopt[:-2])
    assert ran.status == 2
    assert (
        "acme/pump-monitor 1.2.0 would be released without 2 components for good: "
        in ran.err
    )
    assert f"`margo-supplychain {write}` writes one" in ran.err
    assert "or say --partial" in ran.err
    result = run_json("release-candidates", *write.split())["result"]
    assert result["lock"] == "components.lock"
    written = (vendor.place / "components.lock").read_text()
    assert [written] == [one["componentsLock"] for one in result["candidates"]]
    assert written.count("digest = ") == 2
    assert run(*write.split()).out.endswith(
        "wrote components.lock: review it, then adopt with it\n"
    )
    (vendor.place / "components.lock").write_text("other")
    assert run(*write.split()).status == 4
    missing = ("release", "adopt", url, "--from-tags", "--version", "2.0.0")
    ran = run(*missing, "--write-lock", "x.lock")
    assert (ran.status, (vendor.place / "x.lock").exists()) == (2, False)
    assert "has no component that a tag names now" in ran.err
    for wrong in (
        ("release", "adopt", url, "--from-tags", "--write-lock", "x.lock"),
        (*adopt, "--write-lock", "x.lock"),
        (*listing, "--partial"),
    ):
        assert run(*wrong).status == 2


def test_adopt_a_package_with_its_components(vendor: RegistryVendor) -> None:
    """Somebody else's repository has it; here it is signed as it lies there."""
    vendor.move()
    vendor.own()
    vendor.publish("1.2.0")
    url = f"{vendor.parent}/pump-monitor"
    found = run_json("release-candidates", "release", "adopt", url, "--from-tags")[
        "result"
    ]["candidates"][0]
    (vendor.place / "components.lock").write_text(found["componentsLock"])
    vendor.must(
        *("repo", "init", "second/trust", "--profile", "small", "--publisher", "bolt"),
        *("--offline-key", "offline.key", "--online-key", "ci.key"),
    )
    more = ("--repo", "second/trust", "--state", "second/.margo-supplychain/state")
    name = "bolt/pump-monitor"
    vendor.must(
        *("app", "add", name, "--release-key", "ci.pub", *more),
        *("--key", "offline.key", "--key", "ci.key"),
    )
    second = f"{vendor.parent.removesuffix('acme')}bolt/trust"
    done("repo", "push", second, *more)
    ran = vendor.must(
        *("release", "adopt", f"{url}@{found['digest']}", "--name", name),
        *("--version", "1.2.0", "--components-lock", "components.lock"),
        *("--images-lock", "pump-monitor/images.lock", "--key", "ci.key"),
        *("--repo", second, "--state", "second/.margo-supplychain/state"),
    )
    assert "(0 blobs new," in ran.out
    assert "closure partial" not in ran.out
