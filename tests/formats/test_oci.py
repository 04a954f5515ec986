from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.titles import folded, safe_title
from tests.fixtures import image_index_layout, nonconforming_layout, wasm_layout

LAYER = Descriptor.of(b"hello", "text/plain")


def descriptor(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "mediaType": "text/plain",
        "digest": str(LAYER.digest),
        "size": 5,
    }
    return {**found, **changes}


def manifest(**changes: Any) -> bytes:
    found: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": oci.MARGO_APPLICATION,
        "config": {
            "mediaType": oci.EMPTY_TYPE,
            "digest": str(oci.EMPTY.digest),
            "size": 2,
        },
        "layers": [descriptor()],
    }
    found |= changes
    return json.dumps({k: v for k, v in found.items() if v is not ...}).encode()


def index(**changes: Any) -> bytes:
    found: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": oci.INDEX,
        "manifests": [descriptor(mediaType=oci.MANIFEST)],
    }
    found |= changes
    return json.dumps({k: v for k, v in found.items() if v is not ...}).encode()


def read(data: bytes) -> oci.Manifest:
    found = oci.parse_manifest(data)
    assert isinstance(found, oci.Manifest)
    return found


def titled(*titles: str) -> bytes:
    return manifest(
        layers=[descriptor(annotations={oci.TITLE: title}) for title in titles]
    )


# --- what is fine --------------------------------------------------------------------


def test_the_empty_descriptor_is_the_one_of_the_image_spec() -> None:
    assert oci.EMPTY.size == 2
    assert oci.EMPTY.digest.hex == (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )


def test_a_margo_package() -> None:
    data = oci.manifest_bytes(
        artifact_type=oci.MARGO_APPLICATION,
        layers=[
            oci.Layer(
                descriptor=Descriptor.of(b"id: a", oci.MARGO_DESCRIPTION),
                title="margo.yaml",
            ),
            oci.Layer(
                descriptor=Descriptor.of(b"png", oci.resource_type("icon", "a/b.png")),
                title="resources/b.png",
                annotations={oci.MARGO_RESOURCE: oci.resource_annotation("icon")},
            ),
        ],
    )
    document = json.loads(data)
    assert document["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": str(oci.EMPTY.digest),
        "size": 2,
        "data": "e30=",
    }
    assert document["layers"][1]["mediaType"] == "application/vnd.margo.app.icon.v1+png"
    assert document["layers"][1]["annotations"] == {
        "org.margo.app.resource": "metadata.catalog.application.icon",
        "org.opencontainers.image.title": "resources/b.png",
    }
    found = read(data)
    assert found.kind == oci.MARGO_APPLICATION
    assert found.config == oci.EMPTY
    assert [layer.title for layer in found.layers] == ["margo.yaml", "resources/b.png"]


def test_the_same_manifest_is_the_same_bytes() -> None:
    layers = [oci.Layer(descriptor=LAYER, annotations={"b": "2", "a": "1"})]
    other = [oci.Layer(descriptor=LAYER, annotations={"a": "1", "b": "2"})]
    assert oci.manifest_bytes(
        artifact_type=oci.HELM_CONFIG, layers=layers
    ) == oci.manifest_bytes(artifact_type=oci.HELM_CONFIG, layers=other)


def test_subject_and_annotations_survive() -> None:
    data = oci.manifest_bytes(
        artifact_type="application/vnd.in-toto+json",
        layers=[oci.Layer(descriptor=LAYER)],
        subject=LAYER,
        annotations={"a": "1"},
    )
    found = read(data)
    assert found.subject == LAYER
    assert found.annotations == {"a": "1"}


def test_helm_push_has_no_artifact_type() -> None:
    config = Descriptor.of(b"{}", oci.HELM_CONFIG)
    layers = [oci.Layer(descriptor=Descriptor.of(b"", oci.HELM_LAYER))]
    data = oci.manifest_bytes(artifact_type=None, config=config, layers=layers)
    assert read(data).artifact_type is None
    assert read(data).kind == oci.HELM_CONFIG
    assert "data" not in json.loads(data)["config"]
    assert oci.HELM_LAYER in oci.HELM_LAYERS


@pytest.mark.parametrize("media_type", [..., oci.MANIFEST, oci.DOCKER_MANIFEST])
def test_media_types_of_manifests(media_type: Any) -> None:
    found = read(manifest(mediaType=media_type, artifactType=...))
    assert found.media_type in oci.MANIFEST_TYPES


@pytest.mark.parametrize("media_type", [..., oci.INDEX, oci.DOCKER_INDEX])
def test_media_types_of_indexes(media_type: Any) -> None:
    found = oci.parse_manifest(index(mediaType=media_type))
    assert isinstance(found, oci.Index)
    assert found.media_type in oci.INDEX_TYPES


def test_unknown_members_are_ignored_and_entries_keep_them() -> None:
    assert read(manifest(future={"a": [1]})).annotations == {}
    entry = descriptor(
        platform={"os": "linux", "architecture": "arm", "variant": "v7"}, urls=["x"]
    )
    found = oci.parse_manifest(index(manifests=[entry], future=1))
    assert isinstance(found, oci.Index)
    assert found.manifests[0].platform == "linux/arm/v7"
    again = json.loads(oci.index_bytes(found.manifests))
    assert again["manifests"] == [entry]


def test_an_entry_of_no_platform() -> None:
    found = oci.parse_layout_index(index(annotations={"a": "b"}))
    assert found.manifests[0].platform is None
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize("platform", [None, {"os": "linux", "architecture": "amd64"}])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_layout_of_many(platform: object, indent: int | None) -> None:
    entries = [
        descriptor(mediaType=oci.MANIFEST, digest=f"sha256:{number:064x}")
        for number in range(5_000)
    ]
    if platform is not None:
        entries = [one | {"platform": platform} for one in entries]
    separators = (",", ":") if indent is None else None
    document = {"schemaVersion": 2, "manifests": entries}
    data = json.dumps(document, indent=indent, separators=separators).encode()
    assert len(oci.parse_layout_index(data).manifests) == 5_000


@pytest.mark.parametrize("what", ["{}", "[]", "1", '{"a":1}'])
def test_a_layout_of_values_that_no_entry_needs(what: str) -> None:
    values = f"[{','.join([what] * 2_000)}]"
    data = f'{{"schemaVersion":2,"manifests":[],"x":{values}}}'.encode()
    with pytest.raises(OciFormatError, match=r"holds more than [0-9]+ values in"):
        oci.parse_layout_index(data)
    # A few of them are fine.
    few = f'{{"schemaVersion":2,"manifests":[],"x":[{",".join([what] * 200)}]}}'
    assert oci.parse_layout_index(few.encode()).manifests == ()


def test_only_a_layout_may_list_nothing() -> None:
    data = oci.index_bytes([], annotations={"a": "1"})
    assert oci.parse_layout_index(data).manifests == ()
    with pytest.raises(OciFormatError, match="manifests is empty, expected at least"):
        oci.parse_manifest(data)


def test_an_empty_artifact_type_is_none() -> None:
    assert read(manifest(artifactType="")).artifact_type is None


def test_entries_keep_types_and_annotations() -> None:
    entry = oci.Entry(
        descriptor=LAYER, artifact_type=oci.COMPOSE_COMPONENT, annotations={"a": "b"}
    )
    data = oci.index_bytes([entry], artifact_type=oci.COMPOSE_COMPONENT)
    found = oci.parse_manifest(data)
    assert isinstance(found, oci.Index)
    assert (found.artifact_type, found.manifests) == (oci.COMPOSE_COMPONENT, (entry,))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("resources/a.jpg", "jpeg"),
        ("resources/a.JPEG", "jpeg"),
        ("resources/a.md", "markdown"),
        ("resources/a.txt", "plain"),
        ("resources/a.pdf", "pdf"),
        ("resources/LICENSE", "octet-stream"),
        ("a.b/LICENSE", "octet-stream"),
        ("resources/a.weird name", "octet-stream"),
    ],
)
def test_types_of_resources(path: str, form: str) -> None:
    found = oci.resource_type("licenseFile", path)
    assert found == f"application/vnd.margo.app.licenseFile.v1+{form}"


def test_layouts_of_the_fixtures(tmp_path: Path) -> None:
    for make in (wasm_layout, image_index_layout, nonconforming_layout):
        place = tmp_path / make.__name__
        what = make(place)
        listed = oci.parse_layout_index((place / "index.json").read_bytes())
        assert [entry.descriptor for entry in listed.manifests] == [what]
        data = (place / "blobs/sha256" / what.digest.hex).read_bytes()
        assert oci.parse_manifest(data).media_type == what.media_type


# --- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "manifest is not JSON"),
        (b"[]", "manifest is not a JSON object"),
        (b"{}", "schemaVersion is None, expected 2"),
        (manifest(schemaVersion=1), "schemaVersion is 1, expected 2"),
        (manifest(schemaVersion=True), "schemaVersion is True, expected 2"),
        (manifest(schemaVersion="2"), "schemaVersion is '2', expected 2"),
        (manifest(mediaType="text/plain"), "mediaType is 'text/plain', expected an"),
        (manifest(mediaType=5), "mediaType is 5, expected text"),
        (manifest(manifests=[]), "is a manifest and an index at once"),
        (index(config={}), "is a manifest and an index at once"),
        (manifest(layers=...), "has no list of layers"),
        (manifest(layers={}), "has no list of layers"),
        (manifest(layers=[]), "layers is empty, expected at least one"),
        (manifest(layers=[descriptor()] * 1025), "lists more than 1024 layers"),
        (manifest(layers=[1]), r"layers\[0\] is not an object"),
        (manifest(config=...), "manifest config is not an object"),
        (manifest(artifactType="none"), "artifactType: media type 'none' is not one"),
        (manifest(artifactType=[]), r"artifactType is \[\], expected text"),
        (manifest(annotations=[]), "annotations is not an object"),
        (manifest(annotations={"a": 1}), "annotation 'a' is 1, expected text"),
        (manifest(subject=[]), "subject is not an object"),
        (manifest(subject={}), "subject is no descriptor"),
        (index(manifests=...), "has no list of manifests"),
        (index(manifests=[]), "manifests is empty"),
        (index(manifests=[descriptor()] * 1025), "lists more than 1024 manifests"),
        (index(manifests=[None]), r"manifests\[0\] is not an object"),
        (
            index(manifests=[descriptor(platform=[])]),
            r"manifests\[0\] platform is not an object",
        ),
        (
            index(manifests=[descriptor(platform={"os": "linux"})]),
            r"manifests\[0\] platform has no architecture",
        ),
        (
            index(manifests=[descriptor(platform={"os": 1, "architecture": "a"})]),
            "platform os is 1, expected text",
        ),
    ],
)
def test_documents_that_are_none(data: bytes, why: str) -> None:
    with pytest.raises(OciFormatError, match=why):
        oci.parse_manifest(data)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": -1}, r"layers\[0\]: size -1 of .* is not valid"),
        ({"size": 2**53 - 1}, "is not valid"),
        ({"size": 2**63}, "beyond 2"),
        ({"size": 1.5}, "not a whole number"),
        ({"size": "5"}, r"layers\[0\] is no descriptor"),
        ({"size": True}, "is no descriptor"),
        ({"size": None}, "is no descriptor"),
        ({"digest": None}, "is no descriptor"),
        ({"digest": 5}, "digest is 5, expected text"),
        ({"digest": "md5:" + "0" * 32}, r"layers\[0\]: digest 'md5:"),
        ({"digest": "sha256:" + "A" * 64}, "lower-case hex"),
        ({"digest": "sha256:../../etc/passwd"}, "lower-case hex"),
        ({"digest": "/etc/passwd"}, "lower-case hex"),
        ({"mediaType": None}, "is no descriptor"),
        ({"mediaType": "no type"}, r"layers\[0\]: media type 'no type' is not one"),
        ({"annotations": {"a": None}}, r"layers\[0\] annotation 'a' is None"),
    ],
)
def test_descriptors_that_are_none(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(OciFormatError, match=why):
        oci.parse_manifest(manifest(layers=[descriptor(**changes)]))


@pytest.mark.parametrize(
    ("title", "why"),
    [
        ("", "has 0 characters"),
        ("x" * 513, "has 513 characters, not 1 to 512"),
        ("/etc/passwd", "not a relative, normalised path"),
        ("../evil", "not a relative, normalised path"),
        ("a/../b", "not a relative, normalised path"),
        ("a//b", "not a relative, normalised path"),
        ("./a", "not a relative, normalised path"),
        ("a/", "not a relative, normalised path"),
        ("a\\b", "control character, backslash or colon"),
        ("a\0b", "control character, backslash or colon"),
        ("a\nb", "control character, backslash or colon"),
        ("a\u202eb", "control character, backslash or colon"),
        ("C:/evil", "control character, backslash or colon"),
        ("a/NUL", "is a reserved name"),
        ("aux.txt", "is a reserved name"),
        ("a/b. ", "is a reserved name"),
        ("a/b.", "is a reserved name"),
    ],
)
def test_titles_that_are_unsafe(title: str, why: str) -> None:
    with pytest.raises(OciFormatError, match=r"layers\[0\] title.*" + why):
        oci.parse_manifest(titled(title))
    with pytest.raises(OciFormatError, match=why):
        oci.manifest_bytes(
            artifact_type=oci.MARGO_APPLICATION,
            layers=[oci.Layer(descriptor=LAYER, title=title)],
        )


@pytest.mark.parametrize(
    "titles", [("a", "a"), ("a", "A"), ("é", "e\u0301"), ("ß.md", "SS.md")]
)
def test_two_layers_of_one_title(titles: tuple[str, str]) -> None:
    with pytest.raises(OciFormatError, match=r"two layers titled .* are one file"):
        oci.parse_manifest(titled(*titles))


def test_other_titles_are_fine() -> None:
    found = read(titled("margo.yaml", "resources/Größe 2.md", "resources/..data"))
    assert len(found.layers) == 3


def test_limits_of_size() -> None:
    big = manifest(future="x" * oci.MAX_MANIFEST)
    with pytest.raises(OciFormatError, match="more than the limit of 4194304"):
        oci.parse_manifest(big)
    with pytest.raises(OciFormatError, match=r"index.json has .* the limit of 10"):
        oci.parse_layout_index(index(), limit=10)


def test_duplicate_keys_are_refused() -> None:
    data = manifest().replace(b'"layers"', b'"schemaVersion": 2, "layers"')
    with pytest.raises(OciFormatError, match="names 'schemaVersion' twice"):
        oci.parse_manifest(data)


@pytest.mark.parametrize("data", [manifest(), index(mediaType=oci.DOCKER_INDEX)])
def test_a_layout_index_that_is_none(data: bytes) -> None:
    with pytest.raises(OciFormatError, match=r"index\.json is not an image index"):
        oci.parse_layout_index(data)


def test_builders_refuse_what_cannot_be_read() -> None:
    with pytest.raises(OciFormatError, match="layers is empty"):
        oci.manifest_bytes(artifact_type=oci.MARGO_APPLICATION, layers=[])
    with pytest.raises(OciFormatError, match="'x' is not one"):
        oci.index_bytes([], artifact_type="x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["layers", "manifests", "config", "mediaType", "digest", "size"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "layers",
                "manifests",
                "config",
                "mediaType",
                "artifactType",
                "annotations",
                "subject",
            ]
        ),
        JSON,
    ),
    st.booleans(),
)
def test_changed_documents_raise_nothing_else(
    changes: dict[str, Any], is_index: bool
) -> None:
    data = index(**changes) if is_index else manifest(**changes)
    for parse in (oci.parse_manifest, oci.parse_layout_index):
        try:
            parse(data)
        except OciFormatError:
            continue


@given(st.binary(max_size=200))
def test_noise_raises_nothing_else(data: bytes) -> None:
    with pytest.raises(OciFormatError):
        oci.parse_manifest(data)


@given(st.text(max_size=30))
def test_a_safe_title_stays_below_its_directory(text: str) -> None:
    try:
        path = Path("/base") / safe_title(text)
    except OciFormatError:
        return
    assert path.parts[:2] == ("/", "base")
    assert ".." not in path.parts
    assert folded(folded(text)) == folded(text)


def test_the_module_stays_light() -> None:
    """It is on the device's hot path."""
    code = (
        "import sys, margo_supplychain.formats.oci, margo_supplychain.formats.archives;"
        "print(sorted({'yaml', 'tarfile', 'urllib3', 'tempfile', 'semver', 'tomllib'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
