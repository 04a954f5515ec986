from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import inbox as module
from margo_supplychain.authoring.inbox import DirectoryInbox, Inbox, open_inbox
from margo_supplychain.authoring.registry_inbox import RegistryInbox
from margo_supplychain.authoring.submission_file import MAX_SIZE, MEDIA_TYPE
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    MalformedError,
    ManifestRefusedError,
    RefusedError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MANIFEST, parse_manifest
from margo_supplychain.formats.registry_form import wrapping
from tests.authoring.submissions import submission, tar_of
from tests.authoring.tagged import HOST, MemoryRegistry, MemoryRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = f"{HOST}/plant/inbox"
NAME = "ab" * 32


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "inbox"
    found.mkdir()
    return found


@pytest.fixture(params=["directory", "registry"])
def inbox(
    request: pytest.FixtureRequest, directory: Path, registry: MemoryRegistry
) -> Inbox:
    if request.param == "directory":
        return DirectoryInbox(directory)
    return RegistryInbox(registry.repository(URL))


def test_what_is_handed_in_is_read_again(inbox: Inbox) -> None:
    one, two = submission(blobs=[b"layer", b"more"]), submission(note="two")
    assert inbox.names() == ((), False)
    names = {inbox.put(one), inbox.put(two), inbox.put(one)}
    assert inbox.names() == (tuple(sorted(names)), False)
    name = inbox.put(one)
    with inbox.read(name) as again:
        assert tar_of(again) == tar_of(one)
    assert inbox.signed(name).unsigned() == one.unsigned()
    assert inbox.claim(name).publisher == "acme"
    assert inbox.remove(name)
    assert inbox.remove(name)  # again is fine
    assert inbox.names().names == tuple(names - {name})
    for look in (inbox.signed, inbox.claim):
        with pytest.raises(FetchError) as caught:
            look(name)
        assert caught.value.missing
    with pytest.raises(FetchError) as caught, inbox.read(name):
        pass
    assert caught.value.missing


@pytest.mark.parametrize("name", ["", "../x", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"])
def test_names_that_are_none(inbox: Inbox, name: str) -> None:
    for look in (inbox.signed, inbox.claim, inbox.remove):
        with pytest.raises(FormatError, match="64 lower-case hex"):
            look(name)
    with pytest.raises(FormatError, match="64 lower-case hex"), inbox.read(name):
        pass


def test_no_more_names_than_are_looked_at(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(inbox.put(submission(note=f"{number}")) for number in range(5))
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    assert inbox.names() == (tuple(names[:3]), True)


# --- in a directory ------------------------------------------------------------------


def test_other_files_are_passed_over(directory: Path) -> None:
    inbox = DirectoryInbox(directory)
    name = inbox.put(submission())
    for other in ("README", f"{NAME}.tar.part", NAME, f"{'AB' * 32}.tar", ".tmp-1"):
        (directory / other).write_bytes(b"")
    assert inbox.names() == ((name,), False)


def test_more_entries_than_are_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 2)
    for number in range(5):
        (directory / f"{number}").touch()
    assert DirectoryInbox(directory).names() == ((), True)


def test_inbox_that_is_not_there(tmp_path: Path) -> None:
    inbox = DirectoryInbox(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="is no directory, and so no inbox"):
        inbox.names()
    with pytest.raises(StorageError, match="is no directory, and so no inbox"):
        inbox.put(submission())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_what_can_not_be_written(directory: Path) -> None:
    one = submission(blobs=[b"layer"])
    one.source.blobs.clear()  # type: ignore[attr-defined]  # of `Held`
    with pytest.raises(KeyError):
        DirectoryInbox(directory).put(one)
    assert list(directory.iterdir()) == []


def test_links_are_not_followed(directory: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.tar"
    good.write_bytes(tar_of(submission()))
    (directory / f"{NAME}.tar").symlink_to(good)
    with (
        pytest.raises(MalformedError, match="is a symbolic link"),
        DirectoryInbox(directory).read(NAME),
    ):
        pass
    os.mkfifo(directory / f"{'cd' * 32}.tar")
    with (
        pytest.raises(MalformedError, match="is not a regular file"),
        DirectoryInbox(directory).read("cd" * 32),
    ):
        pass


def test_submission_under_another_ones_name(directory: Path) -> None:
    (directory / f"{NAME}.tar").write_bytes(tar_of(submission()))
    with (
        pytest.raises(MalformedError, match=f"expected {NAME}"),
        DirectoryInbox(directory).read(NAME),
    ):
        pass


def test_damaged_submission_is_healed_by_handing_it_in_again(directory: Path) -> None:
    inbox = DirectoryInbox(directory)
    one = submission()
    name = inbox.put(one)
    (directory / f"{name}.tar").write_bytes(b"")
    with pytest.raises(MalformedError, match="ends early"), inbox.read(name):
        pass
    assert inbox.put(one) == name
    with inbox.read(name):
        pass


# --- in a registry -------------------------------------------------------------------


def test_form_in_a_registry(registry: MemoryRegistry) -> None:
    one = submission(blobs=[b"layer"])
    name = RegistryInbox(registry.repository(URL)).put(one)
    held = registry.at(URL)
    manifest = parse_manifest(held.manifests[held.tags[name]])
    assert manifest.artifact_type == MEDIA_TYPE
    assert list(held.tags) == [name]
    assert held.blobs[f"sha256:{name}"] == tar_of(one)


def wrap(registry: MemoryRegistry, layer: Descriptor, tag: str) -> None:
    manifest, _ = wrapping(layer)
    registry.repository(URL).put_manifest(manifest, MANIFEST, tag=tag)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Descriptor.of(b"x", MEDIA_TYPE), "expected application/vnd.margo"),
        (
            Descriptor(media_type="a/b", digest=Digest("sha256", NAME), size=1),
            "is a/b of sha256:abab",
        ),
        (
            Descriptor(
                media_type=MEDIA_TYPE, digest=Digest("sha256", NAME), size=MAX_SIZE + 1
            ),
            "more than the limit",
        ),
    ],
)
def test_something_else_under_a_name(
    registry: MemoryRegistry, layer: Descriptor, text: str
) -> None:
    wrap(registry, layer, NAME)
    inbox = RegistryInbox(registry.repository(URL))
    with pytest.raises(MalformedError, match=text), inbox.read(NAME):
        pass
    with pytest.raises(MalformedError, match=text):
        inbox.claim(NAME)


def test_registry_that_knows_no_artifact_types(
    registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = MemoryRepository.put_manifest

    def refusing(self: MemoryRepository, data: bytes, *rest: Any, **more: Any) -> Any:
        if b'"artifactType"' in data:
            raise ManifestRefusedError("no such field", url=URL)
        return put(self, data, *rest, **more)

    monkeypatch.setattr(MemoryRepository, "put_manifest", refusing)
    inbox = RegistryInbox(registry.repository(URL))
    with inbox.read(inbox.put(submission())) as again:
        assert again.publisher == "acme"


def test_registry_that_deletes_nothing(
    registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(self: MemoryRepository, digest: Digest) -> None:
        del self, digest
        raise RefusedError("deleting is switched off")

    monkeypatch.setattr(MemoryRepository, "delete_manifest", refusing)
    inbox = RegistryInbox(registry.repository(URL))
    name = inbox.put(submission())
    assert not inbox.remove(name)
    assert inbox.names().names == (name,)


def test_registry_with_too_many_tags(
    registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = RegistryInbox(registry.repository(URL))
    name = inbox.put(submission())

    def many(self: MemoryRepository, *, most: int) -> Iterator[str]:
        yield from (name, "other", "1.0.0")
        raise TooLargeError(f"more than {most} tags", url=self.url)

    monkeypatch.setattr(MemoryRepository, "tags", many)
    assert inbox.names() == ((name,), True)


def test_registry_without_the_repository(
    registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: MemoryRepository, *, most: int) -> Iterator[str]:
        del most
        raise FetchError("no such repository", url=self.url, missing=True)

    monkeypatch.setattr(MemoryRepository, "tags", none)
    assert RegistryInbox(registry.repository(URL)).names() == ((), False)


# --- where it is ---------------------------------------------------------------------


def test_opening(tmp_path: Path) -> None:
    assert open_inbox(tmp_path).url == str(tmp_path)
    assert open_inbox("inbox").url == "inbox"
    assert open_inbox("./a:b").url == "a:b"
    assert open_inbox(f"{HOST}/plant/inbox").url == f"{HOST}/plant/inbox"


@pytest.mark.parametrize(
    "url",
    ["", "https://inbox.example", "oci-layout:x", "file:x", "oci://h/p:tag", "a\0b"],
)
def test_places_that_are_no_inbox(url: str) -> None:
    with pytest.raises(FormatError):
        open_inbox(url)
