"""A threshold of two is met with one key."""

from __future__ import annotations

import base64
import json
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, SSlibKey
from securesystemslib.signer._utils import compute_default_keyid
from tuf.api.metadata import Delegations, SuccinctRoles

from margo_supplychain.errors import MalformedError, ThresholdError
from margo_supplychain.formats.tuf_metadata import file_name
from tests.attacks.scenes import (
    ON_THE_WAY,
    ROLES,
    lenient_walk,
    refused,
    running,
    serve_next,
)
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securesystemslib.signer import Key

    from tests.world import World

SPKI = PublicFormat.SubjectPublicKeyInfo
Pair = tuple[CryptoSigner, CryptoSigner]


def again(signer: CryptoSigner, public: str, scheme: str | None = None) -> CryptoSigner:
    """Return the same private key with another public key object, honestly named."""
    one = signer.public_key
    keyval = {"public": public}
    scheme = scheme if scheme is not None else one.scheme
    keyid = compute_default_keyid(one.keytype, scheme, keyval)
    twin = SSlibKey(keyid, one.keytype, scheme, keyval)
    return CryptoSigner(signer._private_key, twin)


@cache
def p256() -> CryptoSigner:
    return CryptoSigner(ec.generate_private_key(ec.SECP256R1()))


@cache
def rsa_2048() -> CryptoSigner:
    return CryptoSigner(rsa.generate_private_key(65537, 2048))


def upper_case_hexadecimal() -> Pair:
    signer = CryptoSigner.generate_ed25519()
    while (upper := signer.public_key.keyval["public"].upper()).isdigit():
        signer = CryptoSigner.generate_ed25519()
    return signer, again(signer, upper)


def pem_with_other_line_ends() -> Pair:
    pem = p256().public_key.keyval["public"]
    return p256(), again(p256(), pem.replace("\n", "\r\n"))


def pem_with_space_around() -> Pair:
    pem = p256().public_key.keyval["public"]
    return p256(), again(p256(), f"\n{pem}\n\n")


def compressed_point() -> Pair:
    """The curve point in the other of its two encodings, inside the PEM."""
    found = p256().public_key._crypto_key()
    whole = found.public_bytes(Encoding.DER, SPKI)
    point = found.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    # SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING }
    algorithm = whole[2:23]
    body = algorithm + b"\x03" + bytes([len(point) + 1]) + b"\x00" + point
    der = b"\x30" + bytes([len(body)]) + body
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    pem = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"
    return p256(), again(p256(), pem)


def other_scheme() -> Pair:
    pem = rsa_2048().public_key.keyval["public"]
    return rsa_2048(), again(rsa_2048(), pem, "rsa-pkcs1v15-sha256")


def extra_field() -> Pair:
    signer = key("twice")
    public: Key = SSlibKey.from_dict("", {**signer.public_key.to_dict(), "x-note": "2"})
    text = encode_canonical(public.to_dict())
    public.keyid = sha256(str(text).encode()).hexdigest()
    return signer, CryptoSigner(signer._private_key, public)  # type: ignore[arg-type]  # another encoding of one key


TWINS = (
    upper_case_hexadecimal,
    pem_with_other_line_ends,
    pem_with_space_around,
    compressed_point,
    other_scheme,
    extra_field,
)


def need_two(world: World, twins: Pair) -> None:
    """Root demands two keys for timestamp, and has one, under two ids."""
    old = world.signers["timestamp"][0]
    world.root.revoke_key(old.public_key.keyid, "timestamp")
    for signer in twins:
        world.root.add_key(signer.public_key, "timestamp")
    world.root.roles["timestamp"].threshold = 2
    world.signers["timestamp"] = list(twins)
    world.rotate("root", keep_old=True)
    world.publish_timestamp()


@pytest.mark.parametrize("make", TWINS)
def test_one_key_under_two_key_ids(tmp_path: Path, make: Callable[[], Pair]) -> None:
    """Mallory got one key into root twice, in two forms, so that her one signature
    counts as two; the root itself is refused, before anything is believed."""
    plant = running(tmp_path)
    twins = make()
    assert twins[0].public_key.keyid != twins[1].public_key.keyid  # sane
    for signer in twins:
        signer.public_key.verify_signature(signer.sign(b"sane"), b"sane")

    need_two(plant.world, twins)
    plant.serve()
    error = refused(
        plant.device,
        ThresholdError,
        "threshold",
        "timestamp in root v2 has one key under two key ids",
        last="2.root.json",
    )
    assert (error.role, error.needed, error.valid) == ("timestamp", 2, 1)


@pytest.mark.parametrize("make", TWINS)
def test_one_key_under_two_key_ids_counts_once(
    tmp_path: Path, make: Callable[[], Pair]
) -> None:
    """Where only the specification is asked for, such a root is taken; both of the
    key's signatures still count as one."""
    plant = running(tmp_path)
    need_two(plant.world, make())
    plant.serve()

    walk = lenient_walk(plant.device)
    with pytest.raises(ThresholdError, match="timestamp v4 has 1 of 2") as caught:
        walk.top_level()
    assert (caught.value.code, caught.value.valid) == ("threshold", 1)
    assert walk.workflow.root.version == 2
    assert walk.workflow.timestamp is None
    assert plant.device.trusted["timestamp"] == 3


@pytest.mark.parametrize("role", ["acme", "acme.pump-monitor"])
def test_one_key_twice_in_a_delegation(tmp_path: Path, role: str) -> None:
    """The same in a delegation: the delegating role is refused."""
    plant = running(tmp_path)
    world = plant.world
    parent = "targets" if role == "acme" else "acme"
    signer, twin = extra_field()
    signed = world.roles[parent]
    signed.revoke_key(key(role).public_key.keyid, role)
    for one in (signer, twin):
        signed.add_key(one.public_key, role)
    signed.delegations.roles[role].threshold = 2
    world.signers[role] = [signer, twin]

    world.touch(parent, role)
    world.publish()
    plant.serve()
    refused(
        plant.device,
        ThresholdError,
        "threshold",
        f"{role} in {parent} v[0-9] has one key under two key ids",
        last=file_name(parent, world.roles[parent].version),
        moved=["timestamp", "snapshot"],
    )


def test_one_key_twice_for_hash_bins(tmp_path: Path) -> None:
    """And for hash bins, which have one list of keys for all."""
    plant = running(tmp_path)
    world = plant.world
    signer, twin = extra_field()
    keys: dict[str, Key] = {
        one.public_key.keyid: one.public_key for one in (signer, twin)
    }
    bins = SuccinctRoles(list(keys), 2, 1, "bin")
    world.targets.delegations = Delegations(keys, succinct_roles=bins)
    world.touch("targets")
    world.publish()
    plant.serve()
    refused(
        plant.device,
        ThresholdError,
        "threshold",
        "bins in targets v3 has one key under two key ids",
        last="3.targets.json",
        moved=["timestamp", "snapshot"],
    )


@pytest.mark.parametrize("role", ROLES)
def test_repeated_signature(tmp_path: Path, role: str) -> None:
    """Mallory repeats the one signature that she has, to be counted as often as it
    stands there; such a list is malformed (TUF 4.2)."""
    plant = running(tmp_path)

    def repeat(data: bytes) -> bytes:
        raw = json.loads(data)
        raw["signatures"] *= 2
        return json.dumps(raw).encode()

    name = serve_next(plant.world, role, repeat)
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"^{role}: .*[Mm]ultiple signatures",
        last=name,
        moved=ON_THE_WAY[role],
    )


def test_two_honest_keys_of_two(tmp_path: Path) -> None:
    """Sanity: two keys do meet a threshold of two, one does not."""
    plant = running(tmp_path)
    world = plant.world
    world.root.roles["timestamp"].threshold = 2
    world.rotate("timestamp", "timestamp-2", keep_old=True)
    world.publish_timestamp()
    plant.serve()
    assert plant.device.version() == "1.1.0"

    world.bump("timestamp", 4)
    for signer in world.signers["timestamp"]:
        alone = world.sign("timestamp", [signer])
        plant.device.source.files.metadata["timestamp.json"] = alone
        refused(plant.device, ThresholdError, "threshold", "timestamp v5 has 1 of 2")


def test_role_whose_own_key_is_listed_twice(tmp_path: Path) -> None:
    """A key id that stands twice in a role's list is one key id; python-tuf refuses."""
    plant = running(tmp_path)

    def repeat(data: bytes) -> bytes:
        raw = json.loads(data)
        raw["signed"]["roles"]["timestamp"]["keyids"] *= 2
        return json.dumps(raw).encode()

    name = serve_next(plant.world, "root", repeat)
    plant.serve()
    refused(plant.device, MalformedError, "malformed", "^root: ", last=name)
