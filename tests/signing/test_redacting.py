"""Names of keys are shown without what does not belong into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.signing.redacting import MAX_SHOWN, is_bare, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("offline.key", "offline.key"),
        ("./a?b=c", "./a?b=c"),
        ("file:/srv/a?b", "file:/srv/a?b"),
        ("pkcs11:token=root-a;object=root", "pkcs11:token=root-a;object=root"),
        ("pkcs11:token=a;id=%01?pin-value=42", "pkcs11:token=a;id=%01?…"),
        ("PKCS11:token=a?module-path=/m.so", "PKCS11:token=a?…"),
        ("pkcs11:token=a;pin-value=42", "pkcs11:token=a;…"),
        ("pkcs11:token=a;pin%2dvalue=42", "pkcs11:token=a;…"),
        ("pkcs11:42;token=a", "pkcs11:…;token=a"),
        ("pkcs11:token=a&pin-value=42", "pkcs11:…"),
        ("pkcs11:token=ü?pin-value=42", "pkcs11:token=ü?…"),
        (" pkcs11:token=a?pin-value=42", "pkcs11:token=a?…"),
        ("hv:a?pin-value=42", "hv:a?…"),
        ("https://me:42@example/a", "https://…@example/a"),
        ("hv:release/1", "hv:release/1"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("pkcs11:token=a=b;object=c;id=%01;serial=1;type=private", True),
        (f"pkcs11:token=a;object={'o' * 300}", True),
        ("awskms:arn:aws:kms:eu-central-1:111122223333:key/mrk-1234", True),
        ("hv:release/1", True),
        ("pkcs11:token=a?", False),
        ("pkcs11:token=a;x-own=1", False),
        ("pkcs11:token=a;", False),
        ("hv:a?b", False),
        ("azurekms://me@acme.vault.azure.net/keys/a", False),
    ],
)
def test_what_brings_nothing_with_it(uri: str, bare: bool) -> None:
    assert is_bare(uri) is bare


@given(st.text(max_size=300))
def test_a_query_is_never_shown(text: str) -> None:
    for uri in (f"pkcs11:token=a?{text}", f"hv:a?{text}"):
        assert redacted(uri) == uri.partition("?")[0] + "?…"
    assert len(redacted(text)) <= MAX_SHOWN + 2
