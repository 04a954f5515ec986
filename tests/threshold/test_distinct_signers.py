"""Whose signatures of an envelope count: key ids are hints, materials are people."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.signer import CryptoSigner, GPGKey, Key, SSlibKey

from margo_supplychain import threshold
from margo_supplychain.errors import ThresholdError
from margo_supplychain.formats.dsse import Envelope
from margo_supplychain.threshold import MAX_SIGNATURES, distinct_signers, material

PAYLOAD = b"DSSEv1 1 t 4 what"
KINDS = ("ed25519", "p256", "p384", "rsa")


@cache
def signer(kind: str, name: str = "") -> CryptoSigner:
    del name
    if kind == "ed25519":
        return CryptoSigner(ed25519.Ed25519PrivateKey.generate())
    if kind == "p256":
        return CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
    if kind == "p384":
        return CryptoSigner(ec.generate_private_key(ec.SECP384R1()))
    return CryptoSigner(rsa.generate_private_key(65537, 2048))


def made(one: CryptoSigner, payload: bytes = PAYLOAD) -> bytes:
    return bytes.fromhex(one.sign(payload).signature)


def side_by_side(signature: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def by_id(*signers: CryptoSigner) -> dict[str, Key]:
    return {one.public_key.keyid: one.public_key for one in signers}


def expected(*signers: CryptoSigner) -> dict[str, str]:
    return {material(one.public_key): one.public_key.keyid for one in signers}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hint", ["own", None, "unknown", "other"])
def test_key_id_is_a_hint(kind: str, hint: str | None) -> None:
    one, other = signer(kind), signer(kind, "b")
    hints = {"own": one.public_key.keyid, "other": other.public_key.keyid}
    keyid = hints.get(hint, hint) if hint else None
    found = distinct_signers(PAYLOAD, [(keyid, made(one))], by_id(other, one))
    assert found == expected(one)


@pytest.mark.parametrize("kind", KINDS)
def test_other_bytes_or_other_keys_do_not_count(kind: str) -> None:
    one, other = signer(kind), signer(kind, "b")
    keyid = one.public_key.keyid
    signature = made(one, PAYLOAD + b" ")
    assert distinct_signers(PAYLOAD, [(keyid, signature)], by_id(one, other)) == {}
    assert distinct_signers(PAYLOAD, [(keyid, made(one))], by_id(other)) == {}
    assert distinct_signers(PAYLOAD, [(keyid, made(one))], {}) == {}
    assert distinct_signers(PAYLOAD, [], by_id(one)) == {}


@pytest.mark.parametrize(("kind", "size"), [("p256", 32), ("p384", 48)])
def test_ecdsa_as_two_numbers(kind: str, size: int) -> None:
    """IEEE P1363, as the example of DSSE's specification has it."""
    one = signer(kind)
    raw = side_by_side(made(one), size)
    assert len(raw) == 2 * size
    for keyid in (one.public_key.keyid, None):
        assert distinct_signers(PAYLOAD, [(keyid, raw)], by_id(one)) == expected(one)
    changed = raw[:-1] + bytes([raw[-1] ^ 1])
    assert distinct_signers(PAYLOAD, [(None, changed)], by_id(one)) == {}


def test_example_of_the_dsse_specification() -> None:
    """protocol.md of DSSE 1.0, "Test Vectors"."""
    numbers = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    )
    key = SSlibKey.from_crypto(numbers.public_key())
    envelope = Envelope.parse(
        b'{"payload": "aGVsbG8gd29ybGQ=",'
        b' "payloadType": "http://example.com/HelloWorld",'
        b' "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajab'
        b'ZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}',
        what="example",
    )
    found = distinct_signers(envelope.pae, envelope.signatures, {key.keyid: key})
    assert found == {material(key): key.keyid}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "signature", [b"", b"\0", b"\0" * 64, b"\xff" * 64, b"\0" * 96, b"0" * 5000]
)
def test_nonsense_does_not_count(kind: str, signature: bytes) -> None:
    one = signer(kind)
    signatures = [(one.public_key.keyid, signature), (None, signature)]
    assert distinct_signers(PAYLOAD, signatures, by_id(one)) == {}


@pytest.mark.parametrize("first", [True, False])
def test_bad_signature_takes_nothing_from_a_good_one_of_that_key_id(
    first: bool,
) -> None:
    one = signer("p256")
    keyid = one.public_key.keyid
    pair = [(keyid, made(one, b"else")), (keyid, made(one))]
    signatures = pair if first else pair[::-1]
    assert distinct_signers(PAYLOAD, signatures, by_id(one)) == expected(one)


def test_several_keys() -> None:
    signers = [signer(kind) for kind in KINDS]
    hinted: list[tuple[str | None, bytes]]
    hinted = [(one.public_key.keyid, made(one)) for one in signers]
    unnamed: list[tuple[str | None, bytes]]
    unnamed = [(None, signature) for _, signature in hinted]
    keys = by_id(*signers)
    assert distinct_signers(PAYLOAD, hinted, keys) == expected(*signers)
    assert distinct_signers(PAYLOAD, unnamed[::-1], keys) == expected(*signers)
    assert distinct_signers(PAYLOAD, hinted + unnamed, keys) == expected(*signers)


def test_one_key_under_two_ids_counts_once() -> None:
    one = signer("ed25519")
    alias = SSlibKey("a" * 64, "ed25519", "ed25519", one.public_key.keyval)
    keys = {**by_id(one), alias.keyid: alias}
    both = [(one.public_key.keyid, made(one)), (alias.keyid, made(one))]
    assert distinct_signers(PAYLOAD, both, keys) == expected(one)
    # Whose id stands for it is the one that the signature names, else the first.
    found = distinct_signers(PAYLOAD, both[::-1], keys)
    assert found == {material(one.public_key): alias.keyid}
    assert distinct_signers(PAYLOAD, [(None, made(one))], keys) == expected(one)


def test_one_key_of_two_schemes_counts_once_in_either() -> None:
    pss = signer("rsa")
    plain = SSlibKey("a" * 64, "rsa", "rsa-pkcs1v15-sha256", pss.public_key.keyval)
    keys = {plain.keyid: plain, **by_id(pss)}
    for keyid in (None, plain.keyid):
        assert distinct_signers(PAYLOAD, [(keyid, made(pss))], keys) == expected(pss)


def test_keys_that_cant_be_read_are_skipped() -> None:
    one = signer("p256")
    broken = SSlibKey("a" * 64, "ecdsa", "ecdsa-sha2-nistp256", {"public": "x"})
    foreign = GPGKey("b" * 40, "eddsa", "pgp+eddsa-ed25519", {"q": ""})
    keys = {broken.keyid: broken, foreign.keyid: foreign, **by_id(one)}
    signatures = [(broken.keyid, made(one)), (foreign.keyid, made(one))]
    assert distinct_signers(PAYLOAD, signatures, keys) == expected(one)


def test_most_signatures() -> None:
    one = signer("ed25519")
    signatures = [(None, made(one))] * MAX_SIGNATURES
    assert distinct_signers(PAYLOAD, signatures, by_id(one)) == expected(one)
    with pytest.raises(ThresholdError, match="has 257 signatures, more than 256"):
        distinct_signers(PAYLOAD, [*signatures, signatures[0]], by_id(one))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The key ids of all attempts to verify."""
    found: list[str] = []
    verify = threshold._verifies

    def counting(key: Key, signature: str, payload: bytes) -> bool:
        found.append(key.keyid)
        return verify(key, signature, payload)

    monkeypatch.setattr(threshold, "_verifies", counting)
    return found


@pytest.mark.parametrize(
    ("limits", "most"),
    [({"MAX_ATTEMPTS": 7}, 7), ({"MAX_HASHED": 3 * len(PAYLOAD) + 1}, 3)],
)
def test_work_is_bounded(
    limits: dict[str, int],
    most: int,
    attempts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Signatures that name no key can't make a device try for ever."""
    signers = [signer("ed25519", str(number)) for number in range(4)]
    for name, value in limits.items():
        monkeypatch.setattr(threshold, name, value)
    junk = [(None, b"\0" * 64)] * 10
    assert distinct_signers(PAYLOAD, junk, by_id(*signers)) == {}
    assert len(attempts) == most


def test_named_keys_are_tried_first(attempts: list[str]) -> None:
    """So junk before them does not use up what work there is."""
    signers = [signer("ed25519", str(number)) for number in range(3)]
    named = [(one.public_key.keyid, made(one)) for one in signers]
    junk = [(None, b"\0" * 64)] * 200
    found = distinct_signers(PAYLOAD, [*junk, *named], by_id(*signers))
    assert found == expected(*signers)
    assert attempts == [one.public_key.keyid for one in signers]
