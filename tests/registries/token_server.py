"""A token server as registries ask for: checks a login, signs what it may do (JWT)."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.registries.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISSUER: Final = "plant tokens"
SERVICE: Final = "plant registry"


class TokenServer(http.server.ThreadingHTTPServer):
    """Gives a token to whoever knows `login`.

    Args:
        directory: for its signing key.
        login: user and password.

    Attributes:
        realm: where tokens are asked for.
        certificate: what the registry trusts (`rootcertbundle`).
        asked: path and Authorization of each request.
        lifetime: of tokens, in seconds.
    """

    daemon_threads = True

    def __init__(self, directory: Path, *, login: tuple[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        pair = Authority(directory, "tokens").issue("token-signer")
        self.certificate = pair.certificate
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        self._x5c = base64.b64encode(
            certificate.public_bytes(serialization.Encoding.DER)
        ).decode()
        self.authorization = basic(*login)
        self.user = login[0]
        self.realm = f"http://127.0.0.1:{self.server_port}/token"
        self.asked: list[tuple[str, str | None]] = []
        self.lifetime = 300

    def token(self, scopes: list[str]) -> str:
        """Return a signed token for scopes such as `repository:acme/trust:pull`."""
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":", 2)
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        head = {"typ": "JWT", "alg": "ES256", "x5c": [self._x5c]}
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": self.user,
            "exp": now + self.lifetime,
            "nbf": now - 60,
            "iat": now,
            "jti": f"{time.monotonic_ns()}",
            "access": access,
        }
        text = f"{_encoded(head)}.{_encoded(claims)}"
        r, s = decode_dss_signature(
            self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        )
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{text}.{_base64url(signature)}"


class _Conversation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TokenServer

    def do_GET(self) -> None:
        said = self.headers["Authorization"]
        self.server.asked.append((self.path, said))
        query = parse_qs(urlsplit(self.path).query)
        if said != self.server.authorization or query.get("service") != [SERVICE]:
            self._say(401, {"errors": [{"code": "UNAUTHORIZED"}]})
            return
        scopes = " ".join(query.get("scope", [])).split()
        self._say(
            200,
            {"token": self.server.token(scopes), "expires_in": self.server.lifetime},
        )

    def _say(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def token_server(directory: Path, *, login: tuple[str, str]) -> Iterator[TokenServer]:
    """Run a token server on loopback."""
    with TokenServer(directory, login=login) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _encoded(document: dict[str, Any]) -> str:
    return _base64url(json.dumps(document, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
