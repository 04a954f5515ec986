from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.oci import EMPTY
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.archive_sink import ArchiveSink
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.layout_archive import ArchiveSource
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_layout import LayoutSource
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
from margo_supplychain.transport.tagged import TaggedSource
from margo_supplychain.transport.tagged_sink import TaggedSink


class PathOfBytes:
    """Paths of bytes exist, and name no URL."""

    def __fspath__(self) -> bytes:
        return b"/srv/trust"


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    store = ContentStore.create(tmp_path / "layout")
    store.put(EMPTY, io.BytesIO(b"{}"))
    return store


def test_a_path_is_what_lies_there(tmp_path: Path, store: ContentStore) -> None:
    archive = tmp_path / "bundle"
    archive.write_bytes(b"")
    (store.directory / "link").symlink_to(archive)
    for url in (str(archive), f"file:{archive}", str(store.directory / "link")):
        assert isinstance(open_source(url), ArchiveSource)
        assert isinstance(open_sink(url), ArchiveSink)
    assert isinstance(open_source(str(store.directory)), LayoutSource)
    assert isinstance(open_sink(str(store.directory)), LayoutSink)
    (store.directory / "metadata").mkdir()
    for url in (str(store.directory), str(tmp_path / "absent"), "relative/path", "."):
        assert isinstance(open_source(url), DirectorySource)
        assert isinstance(open_sink(url), DirectorySink)


def test_a_directory_stays_one_when_content_comes_first(tmp_path: Path) -> None:
    """A copy into a directory that was killed before the metadata goes on there."""
    open_sink(tmp_path / "trust").put_blob(EMPTY, io.BytesIO(b"{}"))
    assert isinstance(open_sink(tmp_path / "trust"), DirectorySink)
    assert isinstance(open_source(tmp_path / "trust"), DirectorySource)


@pytest.mark.parametrize(
    ("url", "source", "sink"),
    [
        ("oci-layout:absent", LayoutSource, LayoutSink),
        ("oci-archive:absent", ArchiveSource, ArchiveSink),
        ("oci://registry.example.org/acme/trust", TaggedSource, TaggedSink),
    ],
)
def test_places_with_tags(url: str, source: type, sink: type) -> None:
    for opened, kind in ((open_source(url), source), (open_sink(url), sink)):
        assert type(opened) is kind
        assert opened.url == url


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
        ("oci://registry.example.org", "names no repository"),
        ("oci://registry.example.org/trust:1.0.0", "names one manifest, expected a re"),
        ("oci://registry.example.org/trust@sha256:" + "0" * 64, "names one manifest"),
        ("oci://me:secret@registry.example.org/trust", "holds a user name or password"),
        ("ftp://example.org", "ftp: is no kind of source"),
        ("s3://bucket", "s3: is no kind of source"),
        ("file://other/srv", "names the host 'other'"),
        ("file://srv", "names the host 'srv'"),
        ("", "names no path"),
        ("file:", "names no path"),
        ("oci-layout:", "names no path"),
        ("a\0b", "names no path"),
        ("oci-archive:", "names no file"),
        ("oci-archive:.", "names no file"),
        ("oci-archive:a/..", "names no file"),
        ("oci-archive:/", "names no file"),
        ("https://me:secret@example.org", "holds credentials"),
    ],
)
def test_refused(url: str, text: str) -> None:
    with pytest.raises(FormatError, match=text) as caught:
        open_source(url)
    assert caught.value.exit_status == 2
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://example.org", "HTTP://example.org"])
def test_not_writable(url: str) -> None:
    with pytest.raises(FormatError, match="can be read, not written"):
        open_sink(url)


def test_fixed_content() -> None:
    source = open_source("/srv/trust")
    content = FixedContent([source])
    assert content.sources(["oci://registry.example.org/acme"]) == (source,)
    with pytest.raises(ValueError, match="at least one source"):
        FixedContent([])
