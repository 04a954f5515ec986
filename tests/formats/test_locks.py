from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import ApplicationFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.locks import (
    ComponentKey,
    ComponentLock,
    ImageLock,
    LockedImage,
)
from tests.fixtures import PACKAGES

DIGEST = Digest.of(b"image")
IMAGE = f"""\
format = 1
[[image]]
reference = "registry.example/web:1"
digest = "{DIGEST}"
platforms = ["linux/arm64", "linux/amd64", "linux/arm/v7"]
"""
COMPONENT = f"""\
format = 1
[[component]]
name = "web"
repository = "oci://registry.example/web"
revision = "1.0.0"
mediaType = "application/vnd.oci.image.manifest.v1+json"
digest = "{DIGEST}"
size = 500
"""


def images(text: str) -> ImageLock:
    return ImageLock.parse(text.encode())


def components(text: str) -> ComponentLock:
    return ComponentLock.parse(text.encode())


def test_locked_images() -> None:
    lock = images(IMAGE)
    assert lock.images == {
        "registry.example/web:1": LockedImage(
            DIGEST, ("linux/amd64", "linux/arm/v7", "linux/arm64")
        )
    }
    assert images(lock.to_bytes().decode()) == lock


def test_platforms_may_be_unknown() -> None:
    lock = images(IMAGE.rpartition("platforms")[0])
    assert lock.images["registry.example/web:1"].platforms == ()
    assert images(lock.to_bytes().decode()) == lock


def test_the_order_of_images_changes_nothing() -> None:
    one, two = LockedImage(DIGEST, ("linux/b", "linux/a")), LockedImage(DIGEST, ())
    lock = ImageLock(images={"b": one, "a": two})
    assert lock.to_bytes() == ImageLock(images={"a": two, "b": one}).to_bytes()
    assert lock.to_bytes().decode() == (
        "# The container images of this package's components, by digest.\n"
        "# Reviewed by people, read by `release build`: what is not here is not "
        "pinned.\n"
        "format = 1\n"
        f'\n[[image]]\nreference = "a"\ndigest = "{DIGEST}"\nplatforms = []\n'
        f'\n[[image]]\nreference = "b"\ndigest = "{DIGEST}"\n'
        'platforms = ["linux/a", "linux/b"]\n'
    )


@pytest.mark.parametrize("path", sorted(PACKAGES.glob("*/images.lock")), ids=str)
def test_the_fixtures_locks_are_as_we_write_them(path: object) -> None:
    for lock in PACKAGES.glob("*/images.lock"):
        data = lock.read_bytes()
        assert ImageLock.parse(data).to_bytes() == data


def test_locked_components() -> None:
    lock = components(COMPONENT)
    key = ComponentKey("web", "oci://registry.example/web", "1.0.0")
    assert lock.components == {
        key: Descriptor(
            media_type="application/vnd.oci.image.manifest.v1+json",
            digest=DIGEST,
            size=500,
        )
    }
    assert components(lock.to_bytes().decode()) == lock
    assert b"never reads a tag again" in lock.to_bytes()


def test_a_lock_of_nothing() -> None:
    assert images("format = 1").images == {}
    assert components("format = 1").components == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "images.lock has no key format"),
        ("format = 2", "images.lock format is 2, expected 1"),
        ("format = true", "images.lock format is True, expected 1"),
        ("format = 1\nformat = 1", "images.lock is not TOML: Cannot overwrite"),
        ("format = x", r"images.lock is not TOML: .*line 1, column"),
        ("format = " + "9" * 5000, "images.lock is not TOML"),
        ("format = 1\nextra = 1", "images.lock has the unknown key 'extra'"),
        ("format = 1\nimage = 1", "images.lock image is not an array of at most 2000"),
        ("format = 1\nimage = [1]", r"images.lock image\[0\] is not a table"),
        (
            "format = 1\nimage = [" + "{}," * 2001 + "]",
            "image is not an array of at most 2000 tables",
        ),
        ("format = " + "[" * 5000, "images.lock is nested too deep"),
        (
            IMAGE.replace("reference", "referenz"),
            r"images.lock image\[0\] has no key reference",
        ),
        (
            IMAGE + "note = 1",
            r"images.lock image\[0\] has the unknown key 'note'",
        ),
        (
            IMAGE + IMAGE.removeprefix("format = 1\n"),
            r"image\[1\].reference registry.example/web:1 is twice",
        ),
        (
            IMAGE.replace('"registry.example/web:1"', "1"),
            r"image\[0\].reference is 1, expected printable text",
        ),
        (
            IMAGE.replace("registry.example/web:1", "a\\u0007"),
            r"reference is 'a\\x07', expected printable text",
        ),
        (
            IMAGE.replace("registry.example/web:1", "x" * 601),
            "expected printable text",
        ),
        (
            IMAGE.replace("sha256:", "sha256:A"),
            r"image\[0\].digest: digest 'sha256:A",
        ),
        (
            IMAGE.replace("linux/arm64", "Linux"),
            r"image\[0\].platforms is \['Linux'.*, expected a list of platforms",
        ),
        (
            IMAGE.rpartition("platforms")[0] + 'platforms = "linux/arm64"',
            r"platforms is 'linux/arm64', expected a list",
        ),
    ],
)
def test_locks_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(ApplicationFormatError, match=why):
        images(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("size = 1", "components.lock has no key format"),
        (
            COMPONENT.replace("size = 500", ""),
            r"components.lock component\[0\] has no key size",
        ),
        (COMPONENT.replace("500", "-1"), r"component\[0\]: size -1 of"),
        (COMPONENT.replace("500", '"500"'), r"component\[0\]: size '500' of"),
        (COMPONENT.replace("500", "5.0"), r"component\[0\]: size 5.0 of"),
        (COMPONENT.replace("application/", "a b/"), r"component\[0\]: media type"),
        (
            COMPONENT + COMPONENT.removeprefix("format = 1\n"),
            r"component\[1\] pins web a second time",
        ),
    ],
)
def test_component_locks_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(ApplicationFormatError, match=why):
        components(text)


def test_limits_and_encoding() -> None:
    with pytest.raises(ApplicationFormatError, match="more than the limit of 1048576"):
        ImageLock.parse(b"#" * ((1 << 20) + 1))
    with pytest.raises(ApplicationFormatError, match=r"images\.lock is not UTF-8"):
        ImageLock.parse(b"\xff")
    with pytest.raises(ApplicationFormatError, match=r"^other has no key format"):
        ImageLock.parse(b"", what="other")


PRINTABLE = st.text(min_size=1, max_size=40).filter(str.isprintable)


@given(st.dictionaries(PRINTABLE, st.sets(st.sampled_from(["linux/a", "linux/b/v1"]))))
def test_what_is_written_is_read(found: dict[str, set[str]]) -> None:
    lock = ImageLock(
        images={
            key: LockedImage(DIGEST, tuple(sorted(value)))
            for key, value in found.items()
        }
    )
    assert images(lock.to_bytes().decode()) == lock


@given(st.text(max_size=100) | st.text('[]{}="\\\n#format1image', max_size=60))
def test_noise_raises_nothing_else(text: str) -> None:
    data = text.encode("utf-8", "replace")
    for parse in (ImageLock.parse, ComponentLock.parse):
        try:
            parse(data)
        except ApplicationFormatError:
            continue
