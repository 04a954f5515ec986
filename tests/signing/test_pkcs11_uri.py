"""PKCS#11 URIs: every attribute means something, or the URI is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.pkcs11 import TokenUri, is_token_uri

# Every attribute that is taken, as RFC 7512 would write it.
WHOLE = (
    "pkcs11:token=root-a;manufacturer=SoftHSM%20project;serial=0f1e;model=SoftHSM%20v2;"
    "library-manufacturer=SoftHSM;library-description=Implementation%20of%20PKCS11;"
    "library-version=2.6;slot-manufacturer=SoftHSM;slot-description=SoftHSM%20slot;"
    "slot-id=327;object=root;id=%01%FF;type=private"
    "?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin"
)


def test_every_attribute() -> None:
    uri = TokenUri.parse(WHOLE)
    assert uri == TokenUri(
        token="root-a",
        manufacturer="SoftHSM project",
        serial="0f1e",
        model="SoftHSM v2",
        library_manufacturer="SoftHSM",
        library_description="Implementation of PKCS11",
        library_version="2.6",
        slot_manufacturer="SoftHSM",
        slot_description="SoftHSM slot",
        slot_id=327,
        object="root",
        id=b"\x01\xff",
        type="private",
        module_path=Path("/usr/lib/softhsm/libsofthsm2.so"),
        pin_source=Path("/run/pin"),
    )
    assert str(uri) == WHOLE
    assert uri.without_query() == WHOLE.partition("?")[0]


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("PKCS11:token=a", "pkcs11:token=a"),
        ("pkcs11:id=%01;object=b;token=a", "pkcs11:token=a;object=b;id=%01"),
        ("pkcs11:token=%61%2d&", "pkcs11:token=a-&"),
        ("pkcs11:token=a+b=c", "pkcs11:token=a+b=c"),
        ("pkcs11:token=%3B%3F%2f%23%25", "pkcs11:token=%3B%3F%2F%23%25"),
        ("pkcs11:token=K%C3%A4the", "pkcs11:token=K%C3%A4the"),
        ("pkcs11:id=ab", "pkcs11:id=%61%62"),
        ("pkcs11:slot-id=007", "pkcs11:slot-id=7"),
        ("pkcs11:token=a?", "pkcs11:token=a"),
        (
            "pkcs11:token=a?pin-source=file:///a%2520b%253Fc&module-path=%2Fm%26n%20o",
            "pkcs11:token=a?module-path=/m%26n%20o&pin-source=file:/a%2520b%253Fc",
        ),
        ("pkcs11:token=a?pin-source=FILE:/p", "pkcs11:token=a?pin-source=file:/p"),
    ],
)
def test_normal_form(written: str, normal: str) -> None:
    uri = TokenUri.parse(written)
    assert str(uri) == normal
    assert TokenUri.parse(normal) == uri


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("", "does not begin with pkcs11:"),
        ("file:/a", "does not begin with pkcs11:"),
        ("pkcs11:" + "a" * 5000, "has 5007 characters, more than 4096"),
        ("pkcs11:", "names neither token nor key"),
        ("pkcs11:?module-path=/m.so", "names neither token nor key"),
        ("pkcs11:token=a;", "a part without ="),
        ("pkcs11:=a", "unknown attribute ''"),
        ("pkcs11://token=a", "unknown attribute '…', expected one of token,"),
        ("pkcs11:Token=a", "unknown attribute 'Token'"),
        ("pkcs11:token=a;x-own=1", "unknown attribute 'x-own'"),
        ("pkcs11:token=a?x-own=1", "unknown attribute 'x-own', expected one of module"),
        ("pkcs11:token=a?module-name=softhsm2", "use module-path"),
        ("pkcs11:token=a;module-path=/m.so", "module-path on the wrong side.*after"),
        ("pkcs11:token=a?serial=1", "serial on the wrong side.*before"),
        ("pkcs11:token=a;token=a", "token twice"),
        ("pkcs11:token=a?module-path=/m&module-path=/n", "module-path twice"),
        ("pkcs11:token=", "an empty token"),
        ("pkcs11:token", "a part without ="),
        ("pkcs11:id=", "an empty id"),
        ("pkcs11:token=a b", "token with a character or escape"),
        ("pkcs11:token=a/b", "token with a character or escape"),
        ("pkcs11:token=ä", "token with a character or escape"),
        ("pkcs11:token=a%2", "token with a character or escape"),
        ("pkcs11:token=a%zz", "token with a character or escape"),
        ("pkcs11:token=a#b", "token with a character or escape"),
        ("pkcs11:token=%FF", "token that is not UTF-8"),
        ("pkcs11:token=a%00", "token with a control character"),
        ("pkcs11:token=a%0Ab", "token with a control character"),
        ("pkcs11:id=" + "%01" * 256, "id of more than 255 bytes"),
        ("pkcs11:slot-id=-1", "slot-id that is no slot's number"),
        ("pkcs11:slot-id=0x10", "slot-id that is no slot's number"),
        ("pkcs11:slot-id=" + "9" * 20, "slot-id that is no slot's number"),
        ("pkcs11:slot-id=%D9%A3", "slot-id that is no slot's number"),
        ("pkcs11:library-version=2.6.1", "library-version that is not like"),
        ("pkcs11:type=cert", "type=cert, expected private or public"),
        ("pkcs11:token=a?module-path=libx.so", "module-path that is not an absolute"),
        ("pkcs11:token=a?pin-source=/run/pin", "pin-source that is not file:/PATH"),
        ("pkcs11:token=a?pin-source=|cat", "pin-source that is not file:/PATH"),
        ("pkcs11:token=a?pin-source=file:pin", "pin-source that is not file:/PATH"),
        ("pkcs11:token=a?pin-source=file://host/p", "pin-source that is not file:"),
        ("pkcs11:token=a?pin-source=file:/a%25zz", "pin-source that is not file:"),
        ("pkcs11:token=a?pin-source=file:/a%2500", "pin-source with a control"),
        ("pkcs11:token=a?pin-source=https:/a", "pin-source that is not file:/PATH"),
    ],
)
def test_refused(uri: str, match: str) -> None:
    with pytest.raises(SignerError, match=match):
        TokenUri.parse(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:token=a;pin-value=314159",
        "pkcs11:token=a?pin-value=314159",
        "pkcs11:token=a?pin-valeu=314159",
        "pkcs11:token=a?314159",
        "pkcs11:token=a?pin-source=314159",
        "pkcs11:token=314159;token=314159",
        "pkcs11:token=314159%",
    ],
)
def test_no_message_repeats_a_secret(uri: str) -> None:
    with pytest.raises(SignerError) as caught:
        TokenUri.parse(uri)
    said = f"{caught.value} {caught.value.hint}"
    assert "314159" not in said


def test_which_texts_are_token_uris() -> None:
    assert is_token_uri("pkcs11:token=a")
    assert is_token_uri("PKCS11:")
    assert not is_token_uri("pkcs11")
    assert not is_token_uri("./pkcs11:token=a")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("pkcs11:object=root", "root"),
        ("pkcs11:id=%01%AB", "id 01ab"),
        ("pkcs11:object=root;id=%01", "root, id 01"),
        ("pkcs11:token=a", "(any)"),
    ],
)
def test_name_of_the_key(uri: str, name: str) -> None:
    assert TokenUri.parse(uri).key == name


TEXT = st.text(min_size=1, max_size=20).filter(str.isprintable)
PATHS = TEXT.map(lambda text: Path("/") / text.strip("/") / "x")


@given(
    st.builds(
        TokenUri,
        token=TEXT,
        serial=st.none() | TEXT,
        object=st.none() | TEXT,
        slot_id=st.none() | st.integers(0, 2**64 - 1),
        id=st.none() | st.binary(min_size=1, max_size=32),
        type=st.sampled_from([None, "private", "public"]),
        module_path=st.none() | PATHS,
        pin_source=st.none() | PATHS,
    )
)
def test_what_is_written_is_read_again(uri: TokenUri) -> None:
    assert TokenUri.parse(str(uri)) == uri
    assert str(TokenUri.parse(str(uri))) == str(uri)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        uri = TokenUri.parse("pkcs11:" + text)
    except SignerError:
        return
    assert TokenUri.parse(str(uri)) == uri
