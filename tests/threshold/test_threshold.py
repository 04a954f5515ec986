"""What counts as a signature, and as another key."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, GPGKey, Key, Signature, SSlibKey
from securesystemslib.signer._utils import compute_default_keyid

from margo_supplychain import threshold
from margo_supplychain.errors import KeyFormatError, ThresholdError
from margo_supplychain.threshold import (
    MAX_SIGNATURES,
    ThresholdStatus,
    count,
    keyid_matches,
    material,
    repeated_material,
    still_met,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

PAYLOAD = b"what is signed"


@cache
def signer(kind: str, name: str = "") -> CryptoSigner:
    del name
    if kind == "ed25519":
        return CryptoSigner(ed25519.Ed25519PrivateKey.generate())
    if kind == "p256":
        return CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
    if kind == "p384":
        return CryptoSigner(ec.generate_private_key(ec.SECP384R1()))
    if kind == "rsa":
        return CryptoSigner(rsa.generate_private_key(65537, 2048))
    mldsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
    return CryptoSigner(mldsa.MLDSA65PrivateKey.generate())


KINDS = ("ed25519", "p256", "p384", "rsa", "mldsa")


def like(key: Key, **changes: Any) -> SSlibKey:
    """Return a key that differs in some fields, under the id computed from it."""
    raw = {**key.to_dict(), **changes}
    keyid = compute_default_keyid(raw["keytype"], raw["scheme"], raw["keyval"])
    return SSlibKey.from_dict(keyid, raw)


def signed_by(*signers: CryptoSigner) -> dict[str, Signature]:
    return {one.public_key.keyid: one.sign(PAYLOAD) for one in signers}


def counted(
    keys: Sequence[Key], signatures: dict[str, Signature], needed: int = 1
) -> ThresholdStatus:
    by_id = {one.keyid: one for one in keys}
    return count(PAYLOAD, signatures, by_id, list(by_id), needed, role="timestamp")


# --- material ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_material_is_the_hash_of_the_subject_public_key_info(kind: str) -> None:
    one = signer(kind)
    spki = one._private_key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert material(one.public_key) == hashlib.sha256(spki).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_material_of_two_keys_differs(kind: str) -> None:
    assert material(signer(kind).public_key) != material(signer(kind, "b").public_key)


def test_material_does_not_depend_on_the_form() -> None:
    pem = signer("p256").public_key
    public = pem.keyval["public"]
    der = base64.b64decode("".join(public.splitlines()[1:-1]))
    one_line = base64.b64encode(der).decode()
    forms = [
        like(pem, keyval={"public": public.replace("\n", "\r\n")}),
        like(pem, keyval={"public": f"\n\n{public}\n"}),
        like(
            pem,
            keyval={
                "public": f"-----BEGIN PUBLIC KEY-----\n{one_line}\n"
                "-----END PUBLIC KEY-----"
            },
        ),
        like(pem, keytype="ecdsa-sha2-nistp256"),
        like(pem, **{"x-note": "again"}),
    ]
    assert {material(one) for one in forms} == {material(pem)}

    key = signer("rsa").public_key
    assert material(like(key, scheme="rsa-pkcs1v15-sha256")) == material(key)
    raw = signer("ed25519").public_key
    upper = like(raw, keyval={"public": raw.keyval["public"].upper()})
    assert material(upper) == material(raw)


@pytest.mark.parametrize(
    ("keytype", "scheme", "public"),
    [
        ("ed25519", "ed25519", ""),
        ("ed25519", "ed25519", "ab"),
        ("ed25519", "ed25519", "not hexadecimal"),
        ("ed25519", "ed25519", "00" * 33),
        ("ecdsa", "ecdsa-sha2-nistp256", ""),
        ("ecdsa", "ecdsa-sha2-nistp256", "no PEM"),
        ("ecdsa", "ecdsa-sha2-nistp256", "\ud800"),
        (
            "rsa",
            "rsassa-pss-sha256",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ),
    ],
)
def test_key_that_cant_be_read(keytype: str, scheme: str, public: str) -> None:
    key = SSlibKey("0" * 64, keytype, scheme, {"public": public})
    with pytest.raises(KeyFormatError, match="key 000000000000 can't be read"):
        material(key)


def test_key_with_another_key_inside() -> None:
    """An Ed25519 key in a PEM that claims to be ECDSA is read, and verifies nothing."""
    one = signer("ed25519")
    pem = one._private_key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    odd = SSlibKey("0" * 64, "ecdsa", "ecdsa-sha2-nistp256", {"public": pem.decode()})
    assert material(odd) == material(one.public_key)
    signature = Signature(odd.keyid, one.sign(PAYLOAD).signature)
    assert not counted([odd], {odd.keyid: signature}).met


def gpg_key() -> Key:
    """A key type that is verified by another program."""
    public = {"q": signer("ed25519").public_key.keyval["public"]}
    return GPGKey("0" * 40, "eddsa", "pgp+eddsa-ed25519", public)


def test_key_of_another_program_is_never_counted() -> None:
    key = gpg_key()
    with pytest.raises(KeyFormatError, match="key 000000000000 is of type 'eddsa'"):
        material(key)
    signature = Signature(key.keyid, signer("ed25519").sign(PAYLOAD).signature)
    status = counted([key], {key.keyid: signature})
    assert (status.met, status.missing) == (False, (key.keyid,))


def test_dsa_key_is_never_counted() -> None:
    private = dsa.generate_private_key(1024)  # noqa: S505 - it counts for nothing
    pem = private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    key = SSlibKey("0" * 64, "dsa", "dsa", {"public": pem.decode()})
    signature = Signature(key.keyid, "00" * 40)
    assert not counted([key], {key.keyid: signature}).met


# --- key ids -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_key_id_is_computed(kind: str) -> None:
    key = signer(kind).public_key
    assert keyid_matches(key.keyid, key)
    assert not keyid_matches("0" * 64, key)
    assert not keyid_matches(key.keyid.upper(), key)
    assert not keyid_matches("", key)


def test_key_id_with_fields_that_tuf_does_not_define() -> None:
    plain = signer("ed25519").public_key
    extra = SSlibKey.from_dict("", {**plain.to_dict(), "keyid_hash_algorithms": ["x"]})
    text = encode_canonical(extra.to_dict())
    whole = hashlib.sha256(str(text).encode()).hexdigest()
    assert whole != plain.keyid
    assert keyid_matches(plain.keyid, extra)
    assert keyid_matches(whole, extra)
    assert not keyid_matches(whole, plain)


def test_key_id_of_another_key() -> None:
    assert not keyid_matches(
        signer("p256").public_key.keyid, signer("p256", "b").public_key
    )


# --- counting ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_valid_signature_counts(kind: str) -> None:
    one = signer(kind)
    status = counted([one.public_key], signed_by(one))
    assert status.met
    assert status.signers == {material(one.public_key)}
    assert status.keyids == (one.public_key.keyid,)
    assert status.missing == ()
    status.require("timestamp v1")


@pytest.mark.parametrize("kind", KINDS)
def test_signature_over_other_bytes_does_not_count(kind: str) -> None:
    one = signer(kind)
    keyid = one.public_key.keyid
    status = counted([one.public_key], {keyid: one.sign(PAYLOAD + b" ")})
    assert not status.met
    assert not status.signers
    assert (status.keyids, status.missing) == ((), (keyid,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "0", "00", "zz", "00" * 64, "\u0663" * 128])
def test_nonsense_does_not_count(kind: str, text: str) -> None:
    key = signer(kind).public_key
    assert not counted([key], {key.keyid: Signature(key.keyid, text)}).met


def test_all_kinds_together() -> None:
    signers = [signer(kind) for kind in ("ed25519", "p256", "p384", "rsa")]
    keys = [one.public_key for one in signers]
    status = counted(keys, signed_by(*signers), 4)
    assert status.met
    assert len(status.signers) == 4
    assert not counted(keys, signed_by(*signers[1:]), 4).met


def test_signature_under_another_key_id_does_not_count() -> None:
    one, other = signer("p256"), signer("p256", "b")
    keyid = one.public_key.keyid
    misnamed = {keyid: one.sign(PAYLOAD)}
    misnamed[keyid] = Signature(other.public_key.keyid, misnamed[keyid].signature)
    assert not counted([one.public_key], misnamed).met
    borrowed = {keyid: Signature(keyid, other.sign(PAYLOAD).signature)}
    assert not counted([one.public_key], borrowed).met


def test_one_key_under_two_ids_counts_once() -> None:
    one = signer("rsa")
    twin = like(one.public_key, scheme="rsa-pkcs1v15-sha256")
    again = CryptoSigner(one._private_key, twin)
    status = counted([one.public_key, twin], signed_by(one, again), 2)
    assert not status.met
    assert len(status.signers) == 1
    assert status.keyids == (one.public_key.keyid,)
    assert status.missing == ()
    with pytest.raises(ThresholdError, match=r"x v1 has 1 of 2 .* \(missing: none\)"):
        status.require("x v1")


def test_key_id_listed_twice_counts_once() -> None:
    one = signer("p256")
    keyid = one.public_key.keyid
    status = count(
        PAYLOAD, signed_by(one), {keyid: one.public_key}, [keyid, keyid], 2, role="root"
    )
    assert (len(status.signers), status.met) == (1, False)


def test_keys_that_are_not_the_roles_do_not_count() -> None:
    one, other = signer("p256"), signer("p256", "b")
    keys = {key.public_key.keyid: key.public_key for key in (one, other)}
    status = count(
        PAYLOAD, signed_by(other), keys, [one.public_key.keyid], 1, role="root"
    )
    assert not status.met
    status = count(PAYLOAD, signed_by(one), {}, [one.public_key.keyid], 1, role="root")
    assert (status.met, status.missing) == (False, (one.public_key.keyid,))


def test_nobody_meets_no_threshold() -> None:
    assert not counted([], {}).met
    for needed in (0, -1):
        with pytest.raises(ThresholdError, match=f"a threshold of {needed}") as caught:
            counted([signer("p256").public_key], signed_by(signer("p256")), needed)
        assert (caught.value.needed, caught.value.valid) == (needed, 0)


def test_too_many_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    one = signer("p256")
    keyid = one.public_key.keyid
    names = [f"{number:x}" for number in range(MAX_SIGNATURES - 1)]
    signatures = signed_by(one) | {name: Signature(name, "") for name in names}
    assert counted([one.public_key], signatures).met

    def never(*_: object) -> str:
        raise RuntimeError("looked at a signature")

    monkeypatch.setattr(threshold, "_verified_material", never)
    signatures["one more"] = signatures[keyid]
    with pytest.raises(ThresholdError, match="257 signatures, more than 256"):
        counted([one.public_key], signatures)


def test_what_an_error_says() -> None:
    signers = [signer("ed25519", str(number)) for number in range(10)]
    keys = [one.public_key for one in signers]
    status = counted(keys, signed_by(signers[0]), 2)
    with pytest.raises(ThresholdError) as caught:
        status.require("timestamp v7")
    error = caught.value
    text = str(error)
    assert text.startswith("timestamp v7 has 1 of 2 required signatures (missing: ")
    assert text.count(",") == 7  # eight of the nine, shortened
    assert keys[1].keyid[:12] in text
    assert keys[1].keyid not in text
    assert error.facts() == {
        "role": "timestamp",
        "needed": 2,
        "valid": 1,
        "missing": tuple(one.keyid for one in keys[1:]),
    }


# --- earlier signers -----------------------------------------------------------------


def test_earlier_signers_by_todays_keys() -> None:
    one, other, gone = (signer("p256", name) for name in "abc")
    keys = {key.public_key.keyid: key.public_key for key in (one, other)}
    today = list(keys)
    earlier = {material(one.public_key), material(gone.public_key)}
    assert still_met(earlier, keys, today, 1)
    assert not still_met(earlier, keys, today, 2)
    assert still_met({material(key) for key in keys.values()}, keys, today, 2)
    assert not still_met(earlier, keys, [other.public_key.keyid], 1)
    assert not still_met({material(gone.public_key)}, keys, today, 1)
    assert not still_met([], keys, today, 1)


def test_earlier_signers_never_meet_a_threshold_of_nothing() -> None:
    one = signer("p256")
    keys = {one.public_key.keyid: one.public_key}
    for needed in (0, -1):
        assert not still_met([material(one.public_key)], keys, list(keys), needed)


def test_earlier_signers_beside_keys_that_cant_be_read() -> None:
    one = signer("p256")
    odd = gpg_key()
    keys: dict[str, Key] = {odd.keyid: odd, one.public_key.keyid: one.public_key}
    assert still_met([material(one.public_key)], keys, ["missing", *keys], 1)
    assert not still_met([odd.keyid], keys, [odd.keyid], 1)


def test_earlier_signer_under_two_ids_counts_once() -> None:
    one = signer("rsa").public_key
    twin = like(one, scheme="rsa-pkcs1v15-sha256")
    keys = {one.keyid: one, twin.keyid: twin}
    assert still_met([material(one)], keys, list(keys), 1)
    assert not still_met([material(one)], keys, list(keys), 2)


# --- one key twice -------------------------------------------------------------------


def test_repeated_material() -> None:
    one, other = signer("rsa").public_key, signer("p256").public_key
    twin = like(one, scheme="rsa-pkcs1v15-sha256")
    odd = gpg_key()
    keys: dict[str, Key] = {key.keyid: key for key in (odd, one, other, twin)}
    assert repeated_material(keys, list(keys)) == (one.keyid, twin.keyid)
    assert repeated_material(keys, ["missing", odd.keyid, one.keyid]) is None
    assert repeated_material(keys, []) is None
