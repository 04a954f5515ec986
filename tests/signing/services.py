"""Key services on loopback that really sign: the operations that are used of four.

Vault's and Amazon's libraries are led here by what their users set. Google's and
Azure's know one address each: for them `lead_google` and `lead_azure` put another way
to send requests into securesystemslib's signers, and leave everything else.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner

from margo_supplychain.signing.checked import public_half

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from securesystemslib.signer import SSlibKey

VAULT_TOKEN: Final = "hvs.of-this-test"
AWS_ID: Final = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234"
AZURE_HOST: Final = "https://acme.vault.azure.net"
GCP: Final = (
    "gcpkms:projects/acme/locations/eu/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3"
)
AZURE: Final = "azurekms://acme.vault.azure.net/keys/release"
AZURE_FULL: Final = f"{AZURE}/0123456789abcdef0123456789abcdef"
_CHALLENGE: Final = (
    'Bearer authorization="https://login.microsoftonline.com/acme", '
    'resource="https://vault.azure.net"'
)
_ECDSA: Final = {"secp256r1": "ECDSA_SHA_256", "secp384r1": "ECDSA_SHA_384"}

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(slots=True, kw_only=True)
class Service:
    """What a service knows, and how it is asked to fail.

    Args:
        address: its URL.
        vault: Vault's Ed25519 keys by name, versions from 1.
        aws: keys by any of their names.
        google: keys by the name of their version.
        azure: keys by name, all versions.
        asked: operations so far.
        lies: sign other bytes than those that were sent.
        answer: in place of every answer.
        location: where every answer sends whoever asked.
    """

    address: str = ""
    vault: dict[str, list[ed25519.Ed25519PrivateKey]] = field(default_factory=dict)
    aws: dict[str, PrivateKey] = field(default_factory=dict)
    google: dict[str, PrivateKey] = field(default_factory=dict)
    azure: dict[str, dict[str, ec.EllipticCurvePrivateKey]] = field(
        default_factory=dict
    )
    asked: list[str] = field(default_factory=list)
    lies: bool = False
    answer: tuple[int, bytes] | None = None
    location: str | None = None


@contextmanager
def service() -> Iterator[Service]:
    """Run a service until the test is over."""
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            if found.answer is not None:
                status, data = found.answer
            elif self.headers.get("X-Amz-Target"):
                status, document = _aws(found, self.headers["X-Amz-Target"], body)
                data = json.dumps(document).encode()
            elif self.path.startswith("/v1/projects/"):
                status, document = _google(found, self.path, body)
                data = json.dumps(document).encode()
            elif self.path.startswith("/keys/"):
                bearer = self.headers.get("Authorization")
                status, document = _azure(found, self.path, bearer, body)
                data = json.dumps(document).encode()
            else:
                token = self.headers.get("X-Vault-Token")
                status, document = _vault(found, self.path, token, body)
                data = json.dumps(document).encode()
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", _CHALLENGE)
            if found.location is not None:
                self.send_header("Location", found.location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        found.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def _vault(
    known: Service, path: str, token: str | None, body: bytes
) -> tuple[int, dict[str, Any]]:
    if token != VAULT_TOKEN:
        return 403, {"errors": ["permission denied"]}
    *_, operation, name = path.split("/")
    known.asked.append(f"{operation} {name}")
    keys = known.vault.get(name)
    if keys is None:
        return 404, {"errors": []}
    if operation == "keys":
        versions = {
            str(number): {"public_key": _text(each.public_key().public_bytes_raw())}
            for number, each in enumerate(keys, 1)
        }
        return 200, {"data": {"type": "ed25519", "keys": versions}}
    asked = json.loads(body)
    version = asked["key_version"]
    payload = base64.b64decode(asked["input"]) + b"!" * known.lies
    signature = _text(keys[version - 1].sign(payload))
    return 200, {"data": {"signature": f"vault:v{version}:{signature}"}}


def _aws(known: Service, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
    operation = target.rpartition(".")[2]
    asked = json.loads(body)
    known.asked.append(f"{operation} {asked['KeyId']}")
    key = known.aws.get(asked["KeyId"])
    if key is None:
        text = f"Alias {asked['KeyId']} is not found."
        return 400, {"__type": "NotFoundException", "message": text}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithms = [_ECDSA[key.curve.name]]
    else:
        algorithms = ["RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_256"]
    if operation == "GetPublicKey":
        public = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return 200, {
            "KeyId": AWS_ID,
            "PublicKey": _text(public),
            "SigningAlgorithms": algorithms,
        }
    digest = base64.b64decode(asked["Message"])
    if asked["MessageType"] != "DIGEST" or asked["SigningAlgorithm"] not in algorithms:
        return 400, {"__type": "InvalidKeyUsageException", "message": "no"}
    if known.lies:
        digest = digest[::-1]
    return 200, {"KeyId": AWS_ID, "Signature": _text(_sign(key, digest))}


def _google(known: Service, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    asked_for = path.partition("?")[0].removeprefix("/v1/")
    name, sign, _ = asked_for.partition(":asymmetricSign")
    name = name.removesuffix("/publicKey")
    known.asked.append(f"{'sign' if sign else 'publicKey'} {name}")
    key = known.google.get(name)
    if key is None:
        error = {"code": 404, "message": f"{name} not found", "status": "NOT_FOUND"}
        return 404, {"error": error}
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = f"RSA_SIGN_PSS_{key.key_size}_SHA256"
    else:
        size = key.curve.key_size
        algorithm = f"EC_SIGN_P{size}_SHA{size}"
    if not sign:
        pem = key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return 200, {"publicKey": {"data": _text(pem)}, "algorithm": algorithm}
    (digest,) = json.loads(body)["digest"].values()
    signed = _sign(key, base64.b64decode(digest)[:: -1 if known.lies else 1])
    return 200, {"name": name, "signature": _text(signed)}


def _azure(
    known: Service, path: str, bearer: str | None, body: bytes
) -> tuple[int, dict[str, Any]]:
    if bearer is None:
        return 401, {"error": {"code": "Unauthorized", "message": "who are you"}}
    _, _, name, *rest = path.partition("?")[0].split("/")
    known.asked.append(" ".join([name, *(each for each in rest if each)]))
    versions = known.azure.get(name)
    if versions is None:
        return 404, {"error": {"code": "KeyNotFound", "message": f"{name} not found"}}
    version = rest[0] if rest and rest[0] else list(versions)[-1]
    key = versions[version]
    size = (key.curve.key_size + 7) // 8
    kid = f"{AZURE_HOST}/keys/{name}/{version}"
    if "sign" not in rest:
        numbers = key.public_key().public_numbers()
        return 200, {
            "key": {
                "kid": kid,
                "kty": "EC",
                "crv": f"P-{key.curve.key_size}",
                "x": _url(numbers.x.to_bytes(size, "big")),
                "y": _url(numbers.y.to_bytes(size, "big")),
                "key_ops": ["sign", "verify"],
            },
            "attributes": {"enabled": True},
        }
    digest = base64.urlsafe_b64decode(json.loads(body)["value"] + "==")
    r, s = utils.decode_dss_signature(_sign(key, digest[:: -1 if known.lies else 1]))
    return 200, {"kid": kid, "value": _url(b"".join(_fixed(r, s, size)))}


def _fixed(*numbers: int) -> list[bytes]:
    *values, size = numbers
    return [value.to_bytes(size, "big") for value in values]


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _sign(key: PrivateKey, digest: bytes) -> bytes:
    algorithm = SHA256() if len(digest) == 32 else SHA384()
    prehashed = utils.Prehashed(algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(prehashed))
    return key.sign(
        digest, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), prehashed
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Cloud:
    """Stands for a signer of securesystemslib, and notes what it is given.

    Args:
        full: the URI that it answers with.
    """

    calls: list[tuple[str, ...]]

    def __init__(self, full: Any) -> None:
        self.calls = []
        self._full = full
        self.inner = CryptoSigner.generate_ecdsa()

    def import_(self, *arguments: str) -> tuple[Any, SSlibKey]:
        self.calls.append(arguments)
        return self._full, public_half(self.inner)

    def from_priv_key_uri(self, uri: str, key: SSlibKey) -> CryptoSigner:
        self.calls.append((uri,))
        return self.inner


# --- clients that know one address ----------------------------------------------------


def lead_google(patch: pytest.MonkeyPatch, known: Service) -> None:
    """Let Google's library talk to this service, by HTTP and without credentials."""
    signer = import_module("securesystemslib.signer._gcp_signer")
    service_of = "google.cloud.kms_v1.services.key_management_service"
    transport = import_module(service_of).transports.KeyManagementServiceRestTransport
    nobody = import_module("google.auth.credentials").AnonymousCredentials
    client = signer.kms.KeyManagementServiceClient

    def led() -> Any:
        host = known.address.removeprefix("http://")
        return client(
            transport=transport(host=host, url_scheme="http", credentials=nobody())
        )

    patch.setattr(signer.kms, "KeyManagementServiceClient", led)


def lead_azure(patch: pytest.MonkeyPatch, known: Service) -> None:
    """Let Azure's library talk to this service, as somebody who has logged in."""
    signer = import_module("securesystemslib.signer._azure_signer")
    token = import_module("azure.core.credentials").AccessToken
    transport = import_module("azure.core.pipeline.transport").RequestsTransport()
    send = transport.send

    def led(request: Any, **options: Any) -> Any:
        url = request.url
        request.url = url.replace(AZURE_HOST, known.address)
        try:
            return send(request, **options)
        finally:
            request.url = url

    class LoggedIn:
        def get_token(self, *_: str, **__: Any) -> Any:
            return token("of-this-test", 2**40)

    transport.send = led
    patch.setattr(signer, "DefaultAzureCredential", LoggedIn)
    for name in ("KeyClient", "CryptographyClient"):
        made = getattr(signer, name)
        patch.setattr(signer, name, partial(made, transport=transport, retry_total=0))
