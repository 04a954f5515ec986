"""Keys in key services: real libraries, and services on loopback that really sign."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import securesystemslib.signer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner

from margo_supplychain.errors import KeyFormatError, SignerError
from margo_supplychain.signing import keys, kms
from margo_supplychain.signing.checked import public_half
from margo_supplychain.signing.keyring import generate_key, open_keyring
from margo_supplychain.signing.public_files import KeyRecord
from tests.signing.asking import Asked
from tests.signing.services import (
    AWS_ID,
    AZURE,
    AZURE_FULL,
    GCP,
    VAULT_TOKEN,
    Cloud,
    Service,
    lead_azure,
    lead_google,
    service,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_boto3 = pytest.mark.skipif(
    importlib.util.find_spec("boto3") is None, reason="the extra aws is not installed"
)
needs_hvac = pytest.mark.skipif(
    importlib.util.find_spec("hvac") is None, reason="the extra vault is not installed"
)
needs_google = pytest.mark.skipif(
    not kms.installed(
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
    ),
    reason="the extra gcp is not installed",
)
needs_azure = pytest.mark.skipif(
    not kms.installed("azurekms://acme.vault.azure.net/keys/k"),
    reason="the extra azure is not installed",
)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    """A service, and the ambient settings that lead to it and nowhere else."""
    with service() as found:
        environment = {
            "AWS_ENDPOINT_URL_KMS": found.address,
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "VAULT_ADDR": found.address,
            "VAULT_TOKEN": VAULT_TOKEN,
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield found


@needs_hvac
def test_vault_signs_and_the_version_is_recorded(known: Service) -> None:
    known.vault["release"] = [ed25519.Ed25519PrivateKey.generate() for _ in range(11)]
    pin = Asked()
    with open_keyring(pin=pin) as keyring:
        record = keyring.look("hv:release")
        assert record.uri == "hv:release/11"  # the newest as a number, not as a text
        assert record.custody is None
        assert keyring.has_private("hv:release")
        known.asked.clear()
        signer = keyring.open("hv:release/11", expect=record.key)
        assert known.asked == []  # nothing is asked before it signs
        record.key.verify_signature(signer.sign(b"payload"), b"payload")
        assert keyring.open("hv:release/11", expect=record.key) is signer
        without = keyring.open("hv:release")
        assert public_half(without) == record.key
    assert pin.tokens == []


@needs_hvac
def test_an_older_version_signs_when_its_public_key_is_known(known: Service) -> None:
    known.vault["release"] = [ed25519.Ed25519PrivateKey.generate()]
    with open_keyring(pin=Asked()) as keyring:
        old = keyring.look("hv:release")
        known.vault["release"].append(ed25519.Ed25519PrivateKey.generate())
        signer = keyring.open("hv:release/1", expect=old.key)
        old.key.verify_signature(signer.sign(b"payload"), b"payload")
        with pytest.raises(SignerError, match="is not hv:release/2"):
            keyring.look("hv:release/1")
        with pytest.raises(SignerError, match=r"is key .*, expected"):
            keyring.open("hv:release", expect=old.key)


@needs_hvac
def test_a_record_of_a_version_opens_it(known: Service, tmp_path: Path) -> None:
    known.vault["release"] = [ed25519.Ed25519PrivateKey.generate()]
    path = tmp_path / "release.pub"
    pin = Asked()
    with open_keyring(pin=pin) as keyring:
        path.write_bytes(keyring.look("hv:release").to_bytes())
        known.vault["release"].append(ed25519.Ed25519PrivateKey.generate())
        known.asked.clear()
        assert keyring.has_private(str(path))
        signer = keyring.open(str(path))
        key = keyring.look(str(path)).key
        assert known.asked == []
        key.verify_signature(signer.sign(b"payload"), b"payload")
    assert pin.tokens == []


def test_a_record_of_a_service_whose_library_is_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hvac", None)
    monkeypatch.setitem(sys.modules, "hvac.exceptions", None)
    key = public_half(CryptoSigner.generate_ed25519())
    path = tmp_path / "their.pub"
    path.write_bytes(KeyRecord(key=key, uri="hv:release/1").to_bytes())
    with open_keyring(pin=Asked()) as keyring:
        assert not keyring.has_private(str(path))
        assert keyring.has_private("hv:release/1")  # `open` says what is missing
        path.write_bytes(KeyRecord(key=key, uri="hv:a/b/c").to_bytes())
        assert not keyring.has_private(str(path))


@needs_boto3
@pytest.mark.parametrize(
    ("key", "scheme"),
    [
        (ec.generate_private_key(ec.SECP256R1()), keys.ECDSA_P256),
        (ec.generate_private_key(ec.SECP384R1()), keys.ECDSA_P384),
        (rsa.generate_private_key(65537, 3072), keys.RSA_PSS),
    ],
)
@pytest.mark.parametrize("name", ["alias/release", AWS_ID])
def test_aws_signs(
    known: Service,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    scheme: str,
    name: str,
) -> None:
    known.aws[name] = key
    with open_keyring(pin=Asked()) as keyring:
        record = keyring.look(f"awskms:{name}")
        assert record.uri == f"awskms:{name}"
        assert record.key == keys.key_of(key.public_key(), what="key")
        assert record.key.scheme == scheme
        signer = keyring.open(f"awskms:{name}")
        record.key.verify_signature(signer.sign(b"payload"), b"payload")
    assert known.asked == [
        f"GetPublicKey {name}", f"GetPublicKey {name}", f"Sign {name}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("awskms:alias/release", marks=needs_boto3),
        pytest.param("hv:release", marks=needs_hvac),
    ],
)
def test_a_service_that_fails(known: Service, uri: str) -> None:
    known.vault["release"] = [ed25519.Ed25519PrivateKey.generate()]
    known.aws["alias/release"] = ec.generate_private_key(ec.SECP256R1())
    with open_keyring(pin=Asked()) as keyring:
        with pytest.raises(SignerError, match=f"cannot read key {uri}x: ") as caught:
            keyring.look(f"{uri}x")
        assert caught.value.hint is not None
        assert "credentials" in caught.value.hint
        signer = keyring.open(uri)
        known.lies = True
        with pytest.raises(SignerError, match="made a signature that does not verify"):
            signer.sign(b"payload")
        known.lies = False
        for answer in (
            (200, b"{}"),
            (200, b"[1]"),
            (200, b'{"data": {"signature": "x"}, "Signature": 7}'),
            (200, b"\xff"),
            (403, b"no"),
            (500, b""),
        ):
            known.answer = answer
            with pytest.raises(SignerError):
                signer.sign(b"payload")
            with pytest.raises(SignerError):
                keyring.look(uri)


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("awskms:alias/release", marks=needs_boto3),
        pytest.param("hv:release", marks=needs_hvac),
    ],
)
def test_without_credentials_or_answer(
    known: Service, uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # ~/.vault-token
    for name in ("AWS_ACCESS_KEY_ID", "VAULT_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(SignerError, match=f"cannot read key {uri}"):
        kms.look(uri)
    monkeypatch.setenv("VAULT_TOKEN", VAULT_TOKEN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    for name in ("AWS_ENDPOINT_URL_KMS", "VAULT_ADDR"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(SignerError, match=f"cannot read key {uri}"):
        kms.look(uri)


P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=3072)


@needs_google
@pytest.mark.parametrize(
    ("key", "scheme"),
    [(P256, keys.ECDSA_P256), (P384, keys.ECDSA_P384), (RSA, keys.RSA_PSS)],
)
def test_google_signs(
    known: Service,
    monkeypatch: pytest.MonkeyPatch,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    scheme: str,
) -> None:
    lead_google(monkeypatch, known)
    name = GCP.removeprefix("gcpkms:")
    known.google[name] = key
    with open_keyring(pin=Asked()) as keyring:
        record = keyring.look(GCP)
        assert (record.uri, record.key.scheme) == (GCP, scheme)
        assert record.key == keys.key_of(key.public_key(), what="key")
        signer = keyring.open(GCP, expect=record.key)
        record.key.verify_signature(signer.sign(b"payload"), b"payload")
        assert known.asked == [f"publicKey {name}", f"sign {name}"]
        known.lies = True
        with pytest.raises(SignerError, match="made a signature that does not verify"):
            signer.sign(b"payload")
        with pytest.raises(SignerError, match=f"cannot read key {GCP}0: NotFound 404"):
            keyring.look(f"{GCP}0")
        for answer in ((200, b"[]"), (200, b"{}"), (200, b"\xff"), (403, b"no")):
            known.answer = answer
            with pytest.raises(SignerError):
                signer.sign(b"payload")


@needs_azure
@pytest.mark.parametrize(
    ("key", "scheme"), [(P256, keys.ECDSA_P256), (P384, keys.ECDSA_P384)]
)
def test_azure_signs(
    known: Service,
    monkeypatch: pytest.MonkeyPatch,
    key: ec.EllipticCurvePrivateKey,
    scheme: str,
) -> None:
    lead_azure(monkeypatch, known)
    old, new = "0" * 32, AZURE_FULL.rpartition("/")[2]
    known.azure["release"] = {old: ec.generate_private_key(key.curve), new: key}
    with open_keyring(pin=Asked()) as keyring:
        record = keyring.look(AZURE)
        assert (record.uri, record.key.scheme) == (AZURE_FULL, scheme)
        assert record.key == keys.key_of(key.public_key(), what="key")
        signer = keyring.open(AZURE_FULL, expect=record.key)
        for payload in (b"payload", *(b"%d" % number for number in range(20))):
            record.key.verify_signature(signer.sign(payload), payload)
        assert known.asked[-1] == f"release {new} sign"
        first = known.azure["release"][old].public_key()
        older = keyring.open(f"{AZURE}/{old}", expect=keys.key_of(first, what="key"))
        older.public_key.verify_signature(older.sign(b"payload"), b"payload")
        known.lies = True
        with pytest.raises(SignerError, match="made a signature that does not verify"):
            signer.sign(b"payload")
        with pytest.raises(SignerError, match=f"key {AZURE}x: Resource.*404 KeyNot"):
            keyring.look(f"{AZURE}x")
        for answer in ((200, b"[]"), (200, b"{}"), (200, b"\xff"), (403, b"no")):
            known.answer = answer
            with pytest.raises(SignerError):
                signer.sign(b"payload")


@pytest.mark.parametrize(
    ("name", "uri", "full", "arguments"),
    [
        ("GCPSigner", GCP, GCP, (GCP.removeprefix("gcpkms:"),)),
        ("AzureSigner", AZURE, AZURE_FULL, ("acme", "release")),
        (
            "AzureSigner",
            AZURE_FULL,
            AZURE_FULL,
            ("acme", "release"),
        ),
    ],
)
def test_what_the_other_signers_are_given(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    uri: str,
    full: str,
    arguments: tuple[str, ...],
) -> None:
    cloud = Cloud(full)
    monkeypatch.setattr(securesystemslib.signer, name, cloud)
    with open_keyring(pin=Asked()) as keyring:
        record = keyring.look(uri)
        assert record.uri == full
        signer = keyring.open(uri)
        record.key.verify_signature(signer.sign(b"payload"), b"payload")
    assert cloud.calls == [arguments, arguments, (full,)]


def test_an_older_version_in_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(securesystemslib.signer, "AzureSigner", Cloud(AZURE_FULL))
    with pytest.raises(SignerError, match=f"is not {AZURE_FULL}") as caught:
        kms.look(f"{AZURE}/fedcba")
    assert caught.value.hint == "give the .pub file in which the older one was recorded"


def test_a_key_that_devices_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(GCP)
    key = public_half(cloud.inner)
    key.scheme = "rsa-pkcs1v15-sha256"
    monkeypatch.setattr(securesystemslib.signer, "GCPSigner", cloud)
    monkeypatch.setattr(cloud, "import_", lambda _: (GCP, key))
    with pytest.raises(KeyFormatError, match="scheme 'rsa-pkcs1v15-sha256', expected"):
        kms.look(GCP)


@needs_hvac
def test_a_token_does_not_follow_a_redirection(known: Service) -> None:
    known.vault["release"] = [ed25519.Ed25519PrivateKey.generate()]
    with service() as elsewhere, open_keyring(pin=Asked()) as keyring:
        elsewhere.vault["release"] = known.vault["release"]
        signer = keyring.open("hv:release")
        known.answer = (307, b"")
        known.location = f"{elsewhere.address}/v1/transit/keys/release"
        with pytest.raises(SignerError, match="cannot read key hv:release: "):
            keyring.look("hv:release")
        with pytest.raises(SignerError, match="cannot sign with key hv:release/1: "):
            signer.sign(b"payload")
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("uri", "name", "extra"),
    [
        ("awskms:alias/release", "AWSSigner", "aws"),
        (GCP, "GCPSigner", "gcp"),
        (AZURE, "AzureSigner", "azure"),
        ("hv:release", "VaultSigner", "vault"),
    ],
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, uri: str, name: str, extra: str
) -> None:
    class Missing:
        @staticmethod
        def import_(*arguments: str) -> Any:
            raise UnsupportedLibraryError("requires something")

        from_priv_key_uri = import_

    monkeypatch.setattr(securesystemslib.signer, name, Missing)
    monkeypatch.setitem(sys.modules, "hvac", None)
    key = public_half(CryptoSigner.generate_ed25519())
    for use in (kms.look, kms.open_signer, partial(kms.open_signer, expect=key)):
        with pytest.raises(SignerError, match="need a library that is not") as caught:
            use(uri)
        assert caught.value.hint == (
            f"install it: pip install 'margo-supplychain[{extra}]'"
        )


@pytest.mark.parametrize(
    "uri",
    [
        "awskms:",
        "awskms:alias/a b",
        "awskms://169.254.169.254/",
        "awskms://localhost/",
        "awskms:alias/a?endpoint=http://evil",
        "AWSKMS:alias/a",
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "gcpkms:projects/../locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "azurekms://acme.vault.azure.net.evil.example/keys/k",
        "azurekms://evil.example/keys/k",
        "azurekms://user@acme.vault.azure.net/keys/k",
        "azurekms://acme.vault.azure.net:8443/keys/k",
        "azurekms://acme.vault.azure.net/keys/k/1/2",
        "hv:../sys/seal",
        "hv:a/b",
        "hv:.",
        "hv:a/1/2",
        f"hv:{'a' * 256}",
    ],
)
def test_uris_that_name_no_key(uri: str) -> None:
    with open_keyring(pin=Asked()) as keyring:
        for use in (keyring.look, keyring.open):
            with pytest.raises(SignerError, match="is not of the form"):
                use(uri)


def test_keys_are_not_made_in_services() -> None:
    for uri in ("awskms:alias/a", GCP, AZURE, "hv:release"):
        with pytest.raises(SignerError, match="are not made here") as caught:
            generate_key(uri, pin=Asked())
        assert caught.value.hint is not None
        assert "key import" in caught.value.hint
