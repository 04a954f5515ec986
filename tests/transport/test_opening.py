from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest

from margo_supplychain.errors import (
    FetchError,
    FormatError,
    OciFormatError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import TargetPath
from margo_supplychain.formats.oci import EMPTY, INDEX, Layer, manifest_bytes
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_layout import LayoutSource
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source

MANIFEST = manifest_bytes(
    artifact_type="application/vnd.margo.app.v1+json",
    layers=[Layer(descriptor=EMPTY, title="margo.yaml")],
)
WHAT = Descriptor.of(MANIFEST, "application/vnd.oci.image.manifest.v1+json")


class PathOfBytes:
    """Paths of bytes exist, and name no URL."""

    def __fspath__(self) -> bytes:
        return b"/srv/trust"


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    store = ContentStore.create(tmp_path / "layout")
    store.put(EMPTY, io.BytesIO(b"{}"))
    store.put(WHAT, io.BytesIO(MANIFEST))
    return store


@pytest.fixture
def layout(store: ContentStore) -> LayoutSource:
    return LayoutSource(store.directory)


# --- an OCI layout as a source -------------------------------------------------------


def test_layout_gives_content_only(layout: LayoutSource) -> None:
    with layout.blob(WHAT, start=1) as file:
        assert file.read() == MANIFEST[1:]
    for ask in (
        lambda: layout.metadata("timestamp.json", limit=100),
        lambda: layout.target(TargetPath("a/b"), WHAT),
    ):
        with pytest.raises(FetchError, match=r"oci-layout:.* has no") as caught:
            ask()
        assert caught.value.missing


def test_resolve(store: ContentStore, layout: LayoutSource) -> None:
    with pytest.raises(FetchError, match=r"has no tag '1\.0\.0'") as caught:
        layout.resolve("1.0.0")
    assert caught.value.missing
    assert layout.resolve(f"@{WHAT.digest}") == WHAT  # not listed, but there
    store.add_reference(WHAT, name="1.0.0")
    assert layout.resolve("1.0.0") == WHAT
    assert layout.resolve(f"@{WHAT.digest}") == WHAT


def test_listed_media_type_counts(store: ContentStore, layout: LayoutSource) -> None:
    listed = Descriptor(media_type=INDEX, digest=EMPTY.digest, size=EMPTY.size)
    store.add_reference(WHAT)
    store.add_reference(listed)
    assert layout.resolve(f"@{EMPTY.digest}") == listed


def test_resolve_sha512(layout: LayoutSource) -> None:
    digest = Digest("sha512", hashlib.sha512(MANIFEST).hexdigest())
    path = blob_path(layout.directory, digest)
    path.parent.mkdir()
    path.write_bytes(MANIFEST)
    assert layout.resolve(f"@{digest}").digest == digest


def test_tag_of_two_things(store: ContentStore, layout: LayoutSource) -> None:
    store.add_reference(WHAT, name="1.0.0")
    index = store.directory / "index.json"
    text = index.read_text()
    store.add_reference(EMPTY, name="1.0.0")
    entry = text[text.index("[{") + 1 : text.rindex("]")]
    index.write_text(index.read_text().replace("[{", f"[{entry},{{", 1))
    with pytest.raises(OciFormatError, match="has 2 manifests tagged") as caught:
        layout.resolve("1.0.0")
    assert "@sha256:" in str(caught.value.hint)


def test_resolve_what_is_not_so(layout: LayoutSource) -> None:
    path = blob_path(layout.directory, WHAT.digest)
    with pytest.raises(OciFormatError, match="is not sha256"):
        layout.resolve("@sha256:../../etc/passwd")
    with pytest.raises(OciFormatError, match="schemaVersion"):
        layout.resolve(f"@{EMPTY.digest}")
    path.write_bytes(MANIFEST + b" ")
    with pytest.raises(OciFormatError, match="does not have the digest"):
        layout.resolve(f"@{WHAT.digest}")
    path.write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(TooLargeError, match="larger than the limit of 4194304"):
        layout.resolve(f"@{WHAT.digest}")
    path.unlink()
    with pytest.raises(FetchError, match="does not exist") as caught:
        layout.resolve(f"@{WHAT.digest}")
    assert caught.value.missing


def test_resolve_without_a_layout(layout: LayoutSource, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not a directory") as caught:
        LayoutSource(tmp_path / "absent").resolve("1.0.0")
    assert caught.value.unreachable
    (layout.directory / "oci-layout").unlink()
    with pytest.raises(OciFormatError, match="not an OCI image layout"):
        layout.resolve("1.0.0")
    os.mkfifo(layout.directory / "oci-layout")
    with pytest.raises(FetchError, match="is not a regular file"):
        layout.resolve("1.0.0")


# --- opening -------------------------------------------------------------------------


def test_open_a_directory(tmp_path: Path, store: ContentStore) -> None:
    assert isinstance(open_source(str(store.directory)), LayoutSource)
    (store.directory / "metadata").mkdir()
    for url in (str(store.directory), str(tmp_path / "absent"), "relative/path", "."):
        assert isinstance(open_source(url), DirectorySource)


@pytest.mark.parametrize("name", ["trust", "a:b", "https:x", "file:a%20b", "/srv/a:b"])
def test_path_objects_are_paths(name: str) -> None:
    assert open_source(Path(name)).url == name
    assert open_sink(Path(name)).url == name


@pytest.mark.parametrize("url", [None, b"/srv/trust", 7, PathOfBytes()])
def test_neither_text_nor_a_path(url: Any) -> None:
    for opened in (open_source, open_sink):
        with pytest.raises(TypeError, match="is a str or a path, not "):
            opened(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:/srv/trust", "/srv/trust"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("file://localhost/srv", "/srv"),
        ("FILE:relative", "relative"),
        ("./a:b", "a:b"),
        ("/srv/a%20b", "/srv/a%20b"),
        ("c:x", "c:x"),
    ],
)
def test_paths(url: str, path: str) -> None:
    assert open_source(url).url == path
    assert open_sink(url).url == path


def test_open_other_kinds() -> None:
    network = Network(tries=1)
    source = open_source("https://updates.example.org/acme", network=network)
    assert isinstance(source, HttpSource)
    assert source.url == "https://updates.example.org/acme/"
    assert isinstance(open_source("HTTP://example.org"), HttpSource)
    assert open_source("oci-layout:/srv/content").url == "oci-layout:/srv/content"
    assert isinstance(open_sink("/srv/trust"), DirectorySink)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("oci://registry.example.org/trust", "registries come with a later release"),
        ("ftp://example.org", "ftp: is no kind of source"),
        ("s3://bucket", "s3: is no kind of source"),
        ("file://other/srv", "names the host 'other'"),
        ("file://srv", "names the host 'srv'"),
        ("", "names no directory"),
        ("file:", "names no directory"),
        ("oci-layout:", "names no directory"),
        ("a\0b", "names no directory"),
        ("https://me:secret@example.org", "holds credentials"),
    ],
)
def test_refused(url: str, text: str) -> None:
    with pytest.raises(FormatError, match=text) as caught:
        open_source(url)
    assert caught.value.exit_status == 2
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://example.org", "oci-layout:/srv"])
def test_not_writable(url: str) -> None:
    with pytest.raises(FormatError, match="can be read, not written"):
        open_sink(url)


def test_fixed_content(layout: LayoutSource) -> None:
    content = FixedContent([layout])
    assert content.sources(["oci://registry.example.org/acme"]) == (layout,)
    with pytest.raises(ValueError, match="at least one source"):
        FixedContent([])
