"""Key services on loopback that really sign: the parts of two APIs that are used.

Google's and Azure's libraries can't be led to another address by their users'
settings, so there is none of them here.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

VAULT_TOKEN: Final = "hvs.of-this-test"
AWS_ID: Final = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234"
_ECDSA: Final = {"secp256r1": "ECDSA_SHA_256", "secp384r1": "ECDSA_SHA_384"}

AwsKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(slots=True, kw_only=True)
class Service:
    """What a service knows, and how it is asked to fail.

    Args:
        address: its URL.
        vault: Vault's Ed25519 keys by name, versions from 1.
        aws: keys by any of their names.
        asked: operations so far.
        lies: sign other bytes than those that were sent.
        answer: in place of every answer.
    """

    address: str = ""
    vault: dict[str, list[ed25519.Ed25519PrivateKey]] = field(default_factory=dict)
    aws: dict[str, AwsKey] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lies: bool = False
    answer: tuple[int, bytes] | None = None


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
            else:
                token = self.headers.get("X-Vault-Token")
                status, document = _vault(found, self.path, token, body)
                data = json.dumps(document).encode()
            self.send_response(status)
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


def _sign(key: AwsKey, digest: bytes) -> bytes:
    algorithm = SHA256() if len(digest) == 32 else SHA384()
    prehashed = utils.Prehashed(algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(prehashed))
    return key.sign(
        digest, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), prehashed
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
