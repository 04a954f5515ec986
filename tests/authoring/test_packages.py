"""`release build`: what comes out of package directories, and every refusal."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import ApplicationFormatError, FormatError
from margo_supplychain.formats import oci
from margo_supplychain.formats.archives import check_compose_archive
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.locks import ComponentKey, ComponentLock
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import ContentStore
from tests.fixtures import copy_package, image_index_layout, wasm_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 21, 10, 0, 0, 5, tzinfo=UTC)


def build(directory: Path, output: Path, **more: Any) -> Release:
    return Release.from_package(directory, publisher="acme", output=output, **more)


def manifest_of(release: Release, what: Descriptor) -> oci.Manifest:
    with release.open(what) as stream:
        found = oci.parse_manifest(stream.read(what.size))
    assert isinstance(found, oci.Manifest)
    return found


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    return copy_package("pump-monitor", tmp_path)


# --- what is built -------------------------------------------------------------------


def test_package_manifest_is_what_margo_says(pump: Path, tmp_path: Path) -> None:
    release = build(pump, tmp_path / "dist")
    assert str(release.name) == "acme/pump-monitor"
    assert str(release.version) == release.application_version == "1.2.0"
    assert release.artifact_type == "application/vnd.margo.app.v1+json"
    manifest = manifest_of(release, release.artifact)
    assert manifest.artifact_type == release.artifact_type
    assert manifest.config == oci.EMPTY
    layers = {
        layer.title: (
            layer.descriptor.media_type,
            layer.annotations.get("org.margo.app.resource"),
        )
        for layer in manifest.layers
    }
    place = "metadata.catalog.application"
    kind = "application/vnd.margo.app"
    assert layers == {
        "margo.yaml": (f"{kind}.description.v1+yaml", None),
        "resources/description.md": (
            f"{kind}.descriptionFile.v1+markdown",
            f"{place}.descriptionFile",
        ),
        "resources/licence.txt": (
            f"{kind}.licenseFile.v1+plain",
            f"{place}.licenseFile",
        ),
        "resources/pump.png": (f"{kind}.icon.v1+png", f"{place}.icon"),
        "resources/release-notes.md": (
            f"{kind}.releaseNotes.v1+markdown",
            f"{place}.releaseNotes",
        ),
    }
    titles = [str(layer.title) for layer in manifest.layers]
    assert titles == sorted(titles)
    with release.open(manifest.layers[0].descriptor) as stream:
        assert stream.read() == (pump / "margo.yaml").read_bytes()


def test_compose_components_are_what_margo_says(pump: Path, tmp_path: Path) -> None:
    release = build(pump, tmp_path / "dist")
    assert [one.name for one in release.components] == ["historian", "web-stack"]
    assert {one.profile_type for one in release.components} == {"compose"}
    web = release.components[1]
    manifest = manifest_of(release, web.content)
    assert manifest.artifact_type == "application/vnd.org.margo.component.compose+json"
    (layer,) = manifest.layers
    assert layer.descriptor.media_type == oci.COMPOSE_LAYER
    assert layer.annotations["org.margo.component.type"] == "compose"
    assert layer.annotations["org.margo.component.version"] == web.revision
    with release.open(layer.descriptor) as stream:
        archive = check_compose_archive(stream)
    assert archive.top == "web-stack"
    names = [one.name for one in archive.members if one.kind == "file"]
    assert names == [
        "web-stack/compose.yaml",
        "web-stack/config/alarms.toml",
        "web-stack/env/web.env",
    ]


def test_images_of_a_package_are_pinned_by_its_lock(pump: Path, tmp_path: Path) -> None:
    release = build(pump, tmp_path / "dist")
    assert release.closure == "complete"
    assert release.warnings == ()
    assert len(release.images) >= 2
    assert {one.component for one in release.images} == {"historian", "web-stack"}
    assert all(one.digest is not None for one in release.images)
    assert any(one.platforms for one in release.images)


def test_layout_names_package_and_components(pump: Path, tmp_path: Path) -> None:
    release = build(pump, tmp_path / "dist")
    entries = ContentStore.open(tmp_path / "dist").index().manifests
    names = [one.annotations[oci.REFERENCE_NAME] for one in entries]
    assert names[0] == "1.2.0"
    assert entries[0].descriptor == release.artifact
    assert len(names) == 3
    assert any(name.startswith("registry.example/acme/web-stack:") for name in names)


@pytest.mark.parametrize(
    ("name", "version", "closure"),
    [
        ("pump-monitor", None, "complete"),
        ("line-analytics", None, "partial"),
        ("vibration-guard", None, "partial"),
        ("hello-conveyor", "1.0.0", "partial"),
        ("cooling-loop", "1.0.0", "complete"),
        ("door-sensor", "1.0.0", "complete"),
    ],
)
def test_every_fixture_is_built_the_same_twice(
    name: str, version: str | None, closure: str, tmp_path: Path
) -> None:
    given = None if version is None else Version.parse(version)
    first = copy_package(name, tmp_path / "one")
    second = copy_package(name, tmp_path / "other" / "place")
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() else 0o600)
    one = build(first, tmp_path / "dist-one", version=given)
    before = os.umask(0o077)
    try:
        build(second, tmp_path / "dist-two", version=given)
    finally:
        os.umask(before)
    assert files_below(tmp_path / "dist-one") == files_below(tmp_path / "dist-two")
    assert one.closure == closure
    text = b"".join(files_below(tmp_path / "dist-one").values())
    assert str(tmp_path).encode() not in text


def test_chart_is_wrapped_as_helm_push_does(tmp_path: Path) -> None:
    directory = copy_package("line-analytics", tmp_path)
    release = build(directory, tmp_path / "dist")
    (analytics,) = release.components
    manifest = manifest_of(release, analytics.content)
    assert manifest.artifact_type is None
    assert manifest.config.media_type == "application/vnd.cncf.helm.config.v1+json"
    (layer,) = manifest.layers
    assert layer.descriptor.media_type == oci.HELM_LAYER
    chart = directory / "components/analytics/line-analytics.tgz"
    assert layer.descriptor.digest == Digest.of(chart.read_bytes())
    with release.open(manifest.config) as stream:
        config = json.loads(stream.read())
    assert (config["name"], config["version"]) == ("line-analytics", "2.0.1")
    assert isinstance(config.get("appVersion", ""), str)
    assert any("images of analytics can't be read" in one for one in release.warnings)


def test_chart_provenance_file_is_a_layer(tmp_path: Path) -> None:
    directory = copy_package("line-analytics", tmp_path)
    prov = directory / "components/analytics/line-analytics.tgz.prov"
    prov.write_text("-----BEGIN PGP SIGNED MESSAGE-----\n")
    release = build(directory, tmp_path / "dist")
    manifest = manifest_of(release, release.components[0].content)
    assert [one.descriptor.media_type for one in manifest.layers] == [
        oci.HELM_LAYER,
        oci.HELM_PROVENANCE,
    ]


def test_images_of_a_chart_can_be_listed_in_the_lock(tmp_path: Path) -> None:
    directory = copy_package("line-analytics", tmp_path)
    digest = Digest.of(b"image")
    (directory / "images.lock").write_text(
        "format = 1\n[[image]]\nreference = 'registry.example/acme/line:2'\n"
        f"digest = '{digest}'\nplatforms = ['linux/arm64']\n"
        "components = ['analytics']\n"
    )
    release = build(directory, tmp_path / "dist")
    assert release.closure == "complete"
    (image,) = release.images
    assert (image.component, image.digest) == ("analytics", digest)
    assert image.platforms == ("linux/arm64",)


def test_both_profiles_of_a_package_are_in_the_record(tmp_path: Path) -> None:
    directory = copy_package("vibration-guard", tmp_path)
    release = build(directory, tmp_path / "dist")
    types = {one.profile: one.profile_type for one in release.components}
    assert sorted(types.values()) == ["compose", "helm"]
    assert len(release.record(NOW).profiles()) == 2


def test_other_resources_are_part_of_the_package(pump: Path, tmp_path: Path) -> None:
    (pump / "resources/img").mkdir()
    (pump / "resources/img/flow.svg").write_text("<svg/>")
    release = build(pump, tmp_path / "dist")
    layers = manifest_of(release, release.artifact).layers
    other = next(one for one in layers if one.title == "resources/img/flow.svg")
    assert other.descriptor.media_type == "application/octet-stream"
    assert other.annotations["org.margo.app.resource"] == "other"


def test_executable_files_of_a_component_stay_executable(
    pump: Path, tmp_path: Path
) -> None:
    script = pump / "components/web-stack/check.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    release = build(pump, tmp_path / "dist")
    (layer,) = manifest_of(release, release.components[1].content).layers
    with release.open(layer.descriptor) as stream:
        members = {one.name: one.mode for one in check_compose_archive(stream).members}
    assert members["web-stack/check.sh"] == 0o755
    assert members["web-stack/compose.yaml"] == 0o644


def test_parts_are_everything_that_a_device_needs(pump: Path, tmp_path: Path) -> None:
    release = build(pump, tmp_path / "dist")
    parts = list(release.parts())
    digests = [part.descriptor.digest for part in parts]
    assert len(digests) == len(set(digests))
    assert digests[-1] == release.artifact.digest
    stored = {path.name for path in (tmp_path / "dist/blobs/sha256").iterdir()}
    assert {digest.hex for digest in digests} == stored
    target = ContentStore.create(tmp_path / "copy")
    for part in parts:
        with release.open(part.descriptor) as stream:
            target.put(part.descriptor, stream)


def test_record_of_a_build(pump: Path, tmp_path: Path) -> None:
    place = "oci://registry.example/acme/pump-monitor"
    release = build(pump, tmp_path / "dist", locations=[place])
    record = release.record(NOW, layout=3)
    assert record.created.microsecond == 0
    assert record.locations == (place,)
    assert record.layout == 3
    assert record.path == "acme/releases/pump-monitor/1.2.0"
    assert len(record.profiles()) == 1
    assert len(record.to_bytes()) < 4000


# --- versions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [("cooling-loop", "1.0"), ("door-sensor", "v1.0.0"), ("hello-conveyor", "1.0")],
)
def test_free_version_needs_a_semver_one_beside_it(
    name: str, text: str, tmp_path: Path
) -> None:
    directory = copy_package(name, tmp_path)
    with pytest.raises(ApplicationFormatError, match="pins need SemVer") as caught:
        build(directory, tmp_path / "dist")
    assert caught.value.hint is not None
    assert "--version 1.0.0" in caught.value.hint
    assert not (tmp_path / "dist").exists()
    release = build(directory, tmp_path / "dist", version=Version.parse("1.0.0"))
    assert release.application_version == text
    assert str(release.version) == "1.0.0"
    entries = ContentStore.open(tmp_path / "dist").index().manifests
    # The tag is the application's own version, as Margo demands.
    assert entries[0].annotations[oci.REFERENCE_NAME] == text


def test_word_for_a_version_gets_a_neutral_suggestion(
    pump: Path, tmp_path: Path
) -> None:
    edit(pump / "margo.yaml", '"1.2.0"', "november")
    with pytest.raises(ApplicationFormatError, match="'november', and pins") as caught:
        build(pump, tmp_path / "dist")
    assert "--version 1.0.0" in str(caught.value.hint)


def test_given_version_must_not_contradict_margo_yaml(
    pump: Path, tmp_path: Path
) -> None:
    with pytest.raises(ApplicationFormatError, match=r"is 1\.2\.0, and --version says"):
        build(pump, tmp_path / "dist", version=Version.parse("1.3.0"))
    built = build(pump, tmp_path / "dist", version=Version.parse("1.2.0+ci.7"))
    assert str(built.version) == "1.2.0+ci.7"
    assert built.record(NOW).path == "acme/releases/pump-monitor/1.2.0_ci.7"


# --- where it goes -------------------------------------------------------------------


def test_building_again_changes_nothing(pump: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    build(pump, dist)
    before = files_below(dist)
    build(pump, dist)
    assert files_below(dist) == before


def test_building_again_brings_the_output_up_to_date(
    pump: Path, tmp_path: Path
) -> None:
    dist = tmp_path / "dist"
    secret = pump / "resources/secret.txt"
    secret.write_text("swordfish")
    build(pump, dist)
    secret.unlink()
    again = build(pump, dist)
    fresh = build(pump, tmp_path / "fresh")
    assert again.artifact == fresh.artifact
    assert files_below(dist) == files_below(tmp_path / "fresh")


def test_damaged_output_is_healed_by_building_again(pump: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    release = build(pump, dist)
    blob = dist / "blobs/sha256" / release.artifact.digest.hex
    data = blob.read_bytes()
    blob.write_bytes(data.replace(b"margo", b"mango", 1))
    build(pump, dist)
    assert blob.read_bytes() == data


def test_output_with_another_version_is_refused(pump: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    build(pump, dist)
    before = files_below(dist)
    edit(pump / "margo.yaml", '"1.2.0"', '"1.3.0"')
    with pytest.raises(
        ApplicationFormatError,
        match=r"holds acme/pump-monitor 1\.2\.0, not acme/pump-monitor 1\.3\.0",
    ):
        build(pump, dist)
    assert files_below(dist) == before


def test_output_with_other_files_is_refused(pump: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/thesis.odt").write_text("five years")
    with pytest.raises(ApplicationFormatError, match=r"holds thesis\.odt, which rele"):
        build(pump, tmp_path / "dist")
    assert files_below(tmp_path / "dist") == {"thesis.odt": b"five years"}


def test_output_that_is_somebody_elses_layout_is_refused(
    pump: Path, tmp_path: Path
) -> None:
    wasm_layout(tmp_path / "dist")
    with pytest.raises(ApplicationFormatError, match="release build did not write"):
        build(pump, tmp_path / "dist")


def test_output_with_a_broken_draft_is_refused(pump: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/release.json").write_text("{")
    with pytest.raises(ApplicationFormatError, match=r"release\.json is not JSON"):
        build(pump, tmp_path / "dist")


def test_output_that_is_a_file_is_refused(pump: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("")
    with pytest.raises(ApplicationFormatError, match="dist is not a directory"):
        build(pump, tmp_path / "dist")


@pytest.mark.parametrize("place", ["resources/dist", "components", "."])
def test_output_inside_its_own_input_is_refused(pump: Path, place: str) -> None:
    with pytest.raises(ApplicationFormatError, match="lie in one another"):
        build(pump, pump / place)


def test_output_inside_the_package_directory_is_fine(pump: Path) -> None:
    first = build(pump, pump / "dist")
    assert first.warnings == ()
    assert build(pump, pump / "dist").artifact == first.artifact


# --- what is refused -----------------------------------------------------------------


def no_description(pump: Path) -> None:
    (pump / "margo.yaml").rename(pump / "margo.yml")


def description_is_a_link(pump: Path) -> None:
    (pump / "margo.yaml").rename(pump / "real.yaml")
    (pump / "margo.yaml").symlink_to("real.yaml")


def description_is_huge(pump: Path) -> None:
    (pump / "margo.yaml").write_bytes(b"#" * ((1 << 20) + 1))


def description_is_a_directory(pump: Path) -> None:
    (pump / "margo.yaml").unlink()
    (pump / "margo.yaml").mkdir()


def icon_is_missing(pump: Path) -> None:
    (pump / "resources/pump.png").unlink()


def resource_is_a_link(pump: Path) -> None:
    (pump / "resources/key").symlink_to("/etc/hostname")


def resources_is_a_link(pump: Path) -> None:
    (pump / "resources").rename(pump / "elsewhere")
    (pump / "resources").symlink_to("elsewhere")


def resource_is_a_pipe(pump: Path) -> None:
    os.mkfifo(pump / "resources/pipe")


def resource_has_a_bad_name(pump: Path) -> None:
    (pump / "resources/con.txt").write_text("")


def component_is_a_link(pump: Path) -> None:
    (pump / "components/historian").rename(pump / "elsewhere")
    (pump / "components/historian").symlink_to(pump / "elsewhere")


def component_is_empty(pump: Path) -> None:
    shutil.rmtree(pump / "components/historian")
    (pump / "components/historian").mkdir()


def component_is_something_else(pump: Path) -> None:
    (pump / "components/historian/compose.yaml").rename(
        pump / "components/historian/docker-compose.yml"
    )


def component_is_a_chart(pump: Path) -> None:
    (pump / "components/historian/compose.yaml").unlink()
    (pump / "components/historian/x.tgz").write_bytes(b"")


def compose_builds(pump: Path) -> None:
    (pump / "components/historian/compose.yaml").write_text(
        "services: {db: {build: .}}"
    )


def compose_lacks_a_file(pump: Path) -> None:
    (pump / "components/web-stack/env/web.env").unlink()


def components_have_no_source(pump: Path) -> None:
    shutil.rmtree(pump / "components")


def lock_is_broken(pump: Path) -> None:
    (pump / "images.lock").write_text("format = 2")


def components_is_a_link(pump: Path) -> None:
    (pump / "components").rename(pump.parent / "elsewhere")
    (pump / "components").symlink_to(pump.parent / "elsewhere")


def profile_is_a_link(pump: Path) -> None:
    (pump / "components").rename(pump.parent / "elsewhere")
    (pump / "components").mkdir()
    link = pump / "components/pump-monitor-compose"
    link.symlink_to(pump.parent / "elsewhere")


def layout_has_a_link(pump: Path) -> None:
    place = pump / "components/historian"
    shutil.rmtree(place)
    wasm_layout(place)
    (place / "blobs/sha256/x").symlink_to("/etc/hostname")


def component_lock_is_sha512(pump: Path) -> None:
    shutil.rmtree(pump / "components/historian")
    text = (pump / "margo.yaml").read_text()
    repository = "oci://registry.example/acme/historian"
    revision = text.split(repository)[1].split("revision:")[1].split()[0].strip('"')
    key = ComponentKey("historian", repository, revision)
    what = Descriptor(
        media_type=oci.MANIFEST, digest=Digest.parse(f"sha512:{'0' * 128}"), size=2
    )
    lock = ComponentLock(components={key: what})
    (pump / "components.lock").write_bytes(lock.to_bytes())


def component_lock_contradicts(pump: Path) -> None:
    text = (pump / "margo.yaml").read_text()
    repository = "oci://registry.example/acme/historian"
    revision = text.split(repository)[1].split("revision:")[1].split()[0].strip('"')
    key = ComponentKey("historian", repository, revision)
    lock = ComponentLock(components={key: Descriptor.of(b"x", oci.MANIFEST)})
    (pump / "components.lock").write_bytes(lock.to_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_description, r"holds no margo\.yaml"),
        (description_is_a_link, r"margo\.yaml is a symbolic link"),
        (description_is_huge, r"margo\.yaml has more than 1048576 bytes"),
        (description_is_a_directory, r"margo\.yaml is not a regular file"),
        (icon_is_missing, r"margo\.yaml:\d+:\d+: icon .* does not exist"),
        (resource_is_a_link, "resources/key is a symbolic link"),
        (resources_is_a_link, "resources is a symbolic link"),
        (resource_is_a_pipe, "resources/pipe is not a regular file"),
        (resource_has_a_bad_name, r"resources/con\.txt' is a reserved name"),
        (component_is_a_link, "components/historian is a symbolic link"),
        (components_is_a_link, "components is a symbolic link"),
        (profile_is_a_link, "components/pump-monitor-compose is a symbolic link"),
        (layout_has_a_link, r"components/historian/blobs/sha256/x is a symbolic link"),
        (component_lock_is_sha512, "a release names everything by sha256"),
        (component_is_empty, "components/historian holds nothing, expected"),
        (component_is_something_else, r"holds docker-compose\.yml, expected compose"),
        (component_is_a_chart, "is a helm component, and margo.yaml's historian"),
        (compose_builds, r"components/historian/compose\.yaml:1:.*built on the device"),
        (compose_lacks_a_file, r"web\.env.* does not exist in the archive"),
        (components_have_no_source, r"no source in components/ .*\(and 1 more\)"),
        (lock_is_broken, r"images\.lock format is 2, expected 1"),
        (component_lock_contradicts, r"historian is sha256:.*components\.lock has"),
    ],
)
def test_package_is_refused(
    spoil: Callable[[Path], None], message: str, pump: Path, tmp_path: Path
) -> None:
    spoil(pump)
    with pytest.raises(ApplicationFormatError, match=message):
        build(pump, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_missing_components_are_all_listed(pump: Path, tmp_path: Path) -> None:
    components_have_no_source(pump)
    with pytest.raises(ApplicationFormatError) as caught:
        build(pump, tmp_path / "dist")
    assert len(caught.value.problems) == 2
    assert "historian (oci://registry.example/acme/historian:" in str(
        caught.value.problems
    )


def test_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ApplicationFormatError, match="nowhere is not a directory"):
        build(tmp_path / "nowhere", tmp_path / "dist")


def test_bad_publisher_and_location_are_refused(pump: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="publisher 'Acme' is not a name"):
        Release.from_package(pump, publisher="Acme", output=tmp_path / "dist")
    with pytest.raises(FormatError, match="is not a URL such as oci://host/path"):
        build(pump, tmp_path / "dist", locations=["registry.example/acme"])
    assert not (tmp_path / "dist").exists()


# --- components from elsewhere, of two profiles, and without any digest ---------------


def test_component_without_source_comes_from_the_reviewed_lock(
    pump: Path, tmp_path: Path
) -> None:
    first = build(pump, tmp_path / "first")
    historian = first.components[0]
    key = ComponentKey(historian.name, historian.repository, historian.revision)
    lock = ComponentLock(components={key: historian.content})
    (pump / "components.lock").write_bytes(lock.to_bytes())
    # Agreeing with what is built here is fine.
    assert build(pump, tmp_path / "first").artifact == first.artifact
    shutil.rmtree(pump / "components/historian")
    release = build(pump, tmp_path / "dist")
    assert release.components == first.components
    assert release.elsewhere == {historian.content.digest}
    assert historian.content.digest not in {
        part.descriptor.digest for part in release.parts()
    }
    # Nobody has looked into it, so its images are not known.
    assert release.closure == "partial"
    assert any("images of historian can't be read" in one for one in release.warnings)


def two_profiles(pump: Path, revision: str) -> None:
    text = (pump / "margo.yaml").read_text()
    profile = (
        "  - type: compose\n    id: second\n    components:\n"
        "      - name: historian\n        properties:\n"
        "          repository: oci://registry.example/acme/historian\n"
        f"          revision: {revision}\n"
    )
    head, mark, tail = text.partition("deploymentProfiles:\n")
    (pump / "margo.yaml").write_text(head + mark + profile + tail)


def test_one_source_for_two_different_components_is_refused(
    pump: Path, tmp_path: Path
) -> None:
    two_profiles(pump, "9.9.9")
    with pytest.raises(ApplicationFormatError, match="source of two components") as why:
        build(pump, tmp_path / "dist")
    assert why.value.hint == "give each its own: components/<profile>/historian/"


def test_source_of_a_profile_wins(pump: Path, tmp_path: Path) -> None:
    two_profiles(pump, "9.9.9")
    own = pump / "components/second/historian"
    own.mkdir(parents=True)
    (own / "compose.yaml").write_text(
        "services: {db: {image: 'registry.example/db@sha256:" + "0" * 64 + "'}}"
    )
    release = build(pump, tmp_path / "dist")
    contents = {
        (one.profile, one.revision): one.content
        for one in release.components
        if one.name == "historian"
    }
    assert len(set(contents.values())) == 2
    assert release.closure == "complete"  # its image has its digest in its name


def test_old_compose_profile_without_repository_is_left_out_aloud(
    pump: Path, tmp_path: Path
) -> None:
    text = (pump / "margo.yaml").read_text()
    text = text.replace(
        "apiVersion: v1\n",
        "apiVersion: margo.org/v1-alpha1\nkind: ApplicationDescription\n",
    )
    head, mark, tail = text.partition("deploymentProfiles:\n")
    profile = (
        "  - type: docker-compose\n    id: old\n    components:\n"
        "      - name: old-stack\n        properties:\n"
        "          packageLocation: https://acme.example/old.tar.gz\n"
    )
    (pump / "margo.yaml").write_text(head + mark + profile + tail)
    release = build(pump, tmp_path / "dist")
    assert release.closure == "partial"
    assert "old" not in {one.profile for one in release.components}
    assert len(release.components) == 2
    assert any(
        "profile old is not part of the release: its component old-stack" in one
        for one in release.warnings
    )


# --- warnings ------------------------------------------------------------------------


def test_unpinned_image_makes_the_closure_partial_aloud(
    pump: Path, tmp_path: Path
) -> None:
    (pump / "images.lock").unlink()
    release = build(pump, tmp_path / "dist")
    assert release.closure == "partial"
    assert all(one.digest is None for one in release.images)
    assert sum("is not in images.lock" in one for one in release.warnings) == len(
        release.images
    )


def test_variable_in_an_image_makes_the_closure_partial_aloud(
    pump: Path, tmp_path: Path
) -> None:
    (pump / "components/historian/compose.yaml").write_text(
        "services: {db: {image: 'registry.example/db:${TAG:-x y}'}}"
    )
    release = build(pump, tmp_path / "dist")
    assert release.closure == "partial"
    assert any("historian: services.db.image" in one for one in release.warnings)
    assert "historian" not in {one.component for one in release.images}


def test_digest_in_a_reference_must_agree_with_the_lock(
    pump: Path, tmp_path: Path
) -> None:
    reference = f"registry.example/db@{Digest.of(b'x')}"
    (pump / "components/historian/compose.yaml").write_text(
        f"services: {{db: {{image: '{reference}'}}}}"
    )
    with (pump / "images.lock").open("a") as lock:
        lock.write(
            f"\n[[image]]\nreference = '{reference}'\ndigest = '{Digest.of(b'y')}'\n"
        )
    with pytest.raises(ApplicationFormatError, match="another digest than its own"):
        build(pump, tmp_path / "dist")


def test_strays_are_named(pump: Path, tmp_path: Path) -> None:
    (pump / "README.md").write_text("hello")
    (pump / "components/old-stack").mkdir()
    with (pump / "images.lock").open("a") as lock:
        lock.write(
            "\n[[image]]\nreference = 'registry.example/gone:1'\n"
            f"digest = '{Digest.of(b'y')}'\n"
        )
    release = build(pump, tmp_path / "dist")
    assert release.warnings == (
        "not part of the package, being outside resources/: README.md",
        "components/old-stack is no component of margo.yaml",
        "images.lock pins registry.example/gone:1, which no component names",
    )
    assert release.closure == "complete"


# --- charts and layouts as sources ----------------------------------------------------


def test_chart_of_another_version_is_refused(tmp_path: Path) -> None:
    directory = copy_package("line-analytics", tmp_path)
    edit(directory / "margo.yaml", "revision: 2.0.1", "revision: 2.0.2")
    with pytest.raises(ApplicationFormatError, match=r"has version '2\.0\.1', and"):
        build(directory, tmp_path / "dist")


def test_chart_of_another_name_than_its_repository_is_said(tmp_path: Path) -> None:
    directory = copy_package("line-analytics", tmp_path)
    edit(directory / "margo.yaml", "charts/line-analytics", "charts/lines")
    release = build(directory, tmp_path / "dist")
    assert any("repository ends in lines" in one for one in release.warnings)


def test_chart_that_is_no_chart_is_refused(tmp_path: Path) -> None:
    directory = copy_package("line-analytics", tmp_path)
    chart = directory / "components/analytics/line-analytics.tgz"
    chart.write_bytes(b"not gzip")
    with pytest.raises(ApplicationFormatError, match=r"line-analytics\.tgz: .*gzip"):
        build(directory, tmp_path / "dist")


def test_layout_of_a_component_is_taken_as_it_is(tmp_path: Path) -> None:
    pump = copy_package("pump-monitor", tmp_path)
    first = build(pump, tmp_path / "first")
    historian = first.components[0].content
    place = pump / "components/historian"
    shutil.rmtree(place)
    store = ContentStore.create(place)
    for part in first.parts():
        with first.open(part.descriptor) as stream:
            store.put(part.descriptor, stream)
    store.add_reference(historian)
    again = build(pump, tmp_path / "dist")
    assert again.components == first.components
    assert again.images == first.images
    assert again.closure == "complete"


def test_layout_with_several_manifests_or_other_content_is_refused(
    tmp_path: Path,
) -> None:
    pump = copy_package("pump-monitor", tmp_path)
    place = pump / "components/historian"
    shutil.rmtree(place)
    wasm_layout(place)
    with pytest.raises(
        ApplicationFormatError, match="historian holds an artifact of ano"
    ):
        build(pump, tmp_path / "dist")
    shutil.rmtree(place)
    image = image_index_layout(place)
    store = ContentStore.open(place)
    store.add_reference(image, name="second")
    with pytest.raises(FormatError, match="lists 2 manifests, expected exactly one"):
        build(pump, tmp_path / "dist")
