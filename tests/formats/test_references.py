from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.references import (
    RegistryReference,
    registry_host,
    registry_tag,
    repository_name,
)

DIGEST = Digest.of(b"")


@pytest.mark.parametrize(
    "text",
    [
        "oci://registry.example/acme/pump",
        "oci://registry.example:5000/acme/pump:1.2.0",
        f"oci://registry.example/acme/pump@{DIGEST}",
        f"oci://localhost/a:Latest_1@{DIGEST}",
        "oci://127.0.0.1:5000/trust",
        "oci://[::1]:5000/a/b/c",
        "oci://[2001:db8::1]/a-b/c__d/e.f/g--h",
        "oci://h/0",
        "oci://h/" + "a" * 255 + ":" + "t" * 128,
    ],
)
def test_a_reference_is_written_as_it_was_read(text: str) -> None:
    assert str(RegistryReference.parse(text)) == text


def test_the_parts_of_a_reference() -> None:
    found = RegistryReference.parse(f"oci://h.example:5000/acme/pump:1_2@{DIGEST}")
    assert (found.host, found.path) == ("h.example:5000", "acme/pump")
    assert (found.tag, found.digest) == ("1_2", DIGEST)
    assert found.repository == "oci://h.example:5000/acme/pump"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci://",
        "oci:///a",
        "oci://h",
        "oci://h/",
        "oci://h/a/",
        "oci://h//a",
        "oci://h/a//b",
        "oci://h/A",
        "oci://h/a..b",
        "oci://h/a___b",
        "oci://h/../a",
        "oci://h/.a",
        "oci://h/a-",
        "oci://h/a b",
        "oci://h/a?x",
        "oci://h/a#x",
        "oci://h/a%2fb",
        "oci://h/a\n",
        "oci://h/ä",
        "oci://h/" + "a" * 256,
        "oci://h/a:",
        "oci://h/a:.x",
        "oci://h/a:-x",
        "oci://h/a:x+y",
        "oci://h/a:x\n",
        "oci://h/a:x:y",
        "oci://h/a:" + "x" * 129,
        "oci://h/a@",
        "oci://h/a@sha256:" + "A" * 64,
        "oci://h/a@sha256:" + "a" * 63,
        "oci://h/a@md5:" + "a" * 32,
        f"oci://h/a@{DIGEST}:x",
        f"oci://h/a@{DIGEST}@{DIGEST}",
        "oci://H/a",
        "oci://h_h/a",
        "oci://-h/a",
        "oci://h./a",
        "oci://h:/a",
        "oci://h:0/a",
        "oci://h:080/a",
        "oci://h:65536/a",
        "oci://h:1:2/a",
        "oci://" + "a." * 127 + "a/a",
        "oci://[::1/a",
        "oci://::1/a",
        "oci://[]/a",
        "oci://[::g]/a",
        "oci://[1:2]/a",
        "oci://[0:0::1]/a",
        "oci://[fe80::1%25eth0]/a",
        "OCI://h/a",
        "oci:h/a",
        "https://h/a",
        "h/a",
        "oci://h/" + "a" * 2000,
    ],
)
def test_anything_else_is_no_reference(text: str) -> None:
    with pytest.raises(OciFormatError):
        RegistryReference.parse(text)


def test_no_registry_is_assumed() -> None:
    with pytest.raises(OciFormatError, match="does not begin with oci://") as caught:
        RegistryReference.parse("ubuntu:22.04")
    assert caught.value.hint == "write oci://HOST/REPOSITORY; no registry is assumed"


def test_a_host_in_capitals_says_what_to_do() -> None:
    with pytest.raises(OciFormatError, match="not a host in lower case") as caught:
        RegistryReference.parse("oci://Registry.Example/a")
    assert caught.value.hint == "write it in lower case"


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(OciFormatError, match="holds a user name") as caught:
        RegistryReference.parse("oci://user:hunter2@h/a")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in (caught.value.hint or "")


def test_an_address_has_one_spelling() -> None:
    with pytest.raises(OciFormatError, match=r"is not spelt \[::1\]"):
        registry_host("[0:0:0:0:0:0:0:1]:5000")


def test_children_and_parents() -> None:
    found = RegistryReference.parse(f"oci://h/acme/trust:x@{DIGEST}")
    assert str(found.parent) == "oci://h/acme"
    assert str(found.child("a/b")) == "oci://h/acme/trust/a/b"
    with pytest.raises(OciFormatError, match="has nothing above it"):
        _ = found.parent.parent
    for name in ("", "../x", "A", "/x", "a" * 250):
        with pytest.raises(OciFormatError, match="repository"):
            found.child(name)


@given(st.text())
def test_parsers_raise_nothing_else(text: str) -> None:
    for parse in (
        RegistryReference.parse,
        lambda tail: RegistryReference.parse(f"oci://h/{tail}"),
        registry_host,
        repository_name,
        registry_tag,
    ):
        try:
            parse(text)
        except OciFormatError:
            continue


@given(st.from_regex(r"[a-z0-9._/-]{1,60}", fullmatch=True))
def test_what_is_taken_is_written_back(name: str) -> None:
    try:
        found = RegistryReference.parse(f"oci://h/{name}")
    except OciFormatError:
        return
    assert found.path == name
    assert str(found) == f"oci://h/{name}"
