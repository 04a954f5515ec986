"""A registry that serves real content, keeps a record, and lies on demand.

Until it is told to lie it is an honest, small registry of the distribution
specification: push, pull, ranges, tags, referrers, logins, tokens. A lie stands before
the truth for the requests that it names; `tests.registries.lies` has the usual ones.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import parse_qs, quote, urlsplit

from tests.registries.token_server import basic

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Lie = Callable[["Conversation"], None]

IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
_ROUTE: Final = re.compile(
    r"/v2/(?P<name>.+?)/(?:manifests/(?P<reference>[^/]+)"
    r"|blobs/uploads/(?P<upload>[^/]*)|blobs/(?P<blob>[^/]+)"
    r"|(?P<tags>tags/list)|referrers/(?P<subject>[^/]+))"
)


class Truth(NamedTuple):
    """An honest answer, before it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    certificate: str | None

    @property
    def secrets(self) -> set[str]:
        """Return what of it only the right origin may see."""
        shown = {"authorization", "cookie", "proxy-authorization"} & set(self.headers)
        return shown | ({"client certificate"} if self.certificate else set())


@dataclass
class Holdings:
    """What one repository holds; shared by the origins that should serve it."""

    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def add_blob(self, data: bytes) -> str:
        """Keep a blob; return its digest."""
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def add_manifest(self, data: bytes, *, tag: str | None, kind: str = IMAGE) -> str:
        """Keep a manifest; return its digest."""
        self.manifests[digest_of(data)] = kind, data
        if tag is not None:
            self.tags[tag] = digest_of(data)
        return digest_of(data)


class HostileRegistry(http.server.ThreadingHTTPServer):
    """Serves `holdings`; see the module.

    Args:
        tls: serve https.

    Attributes:
        login: user and password that it asks for, or None.
        tokens: it asks for a token, which `/token` gives for the login.
        realm: where it says that tokens come from.
        referrers: it has the referrers API.
        page: most tags and referrers in one answer.
        seen: every request.
        sent: bytes of bodies that the other side took (or its kernel).
    """

    daemon_threads = True
    block_on_close = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.scheme = "http" if tls is None else "https"
        self.holdings: dict[str, Holdings] = {}
        self.uploads: dict[str, bytes] = {}
        self.login: tuple[str, str] | None = None
        self.tokens = False
        self.realm = f"{self.url}/token"
        self.granted: dict[str, set[str]] = {}
        self.referrers = True
        self.page = 1000
        self.seen: list[Seen] = []
        self.sent = 0
        self.over = threading.Event()
        self._lies: list[tuple[re.Pattern[str], Lie, list[int]]] = []

    @property
    def host(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{self.scheme}://{self.host}"

    def of(self, name: str) -> Holdings:
        """Return what the repository `name` holds."""
        return self.holdings.setdefault(name, Holdings())

    def lies(self, where: str, lie: Lie, *, times: int | None = None) -> None:
        """Let `lie` answer requests.

        Args:
            where: is searched for in "METHOD path".
            times: then the truth again; always, by default.
        """
        self._lies.append((re.compile(where), lie, [-1 if times is None else times]))

    def is_honest_again(self) -> None:
        """Forget all lies."""
        self._lies.clear()

    def lie_for(self, method: str, path: str) -> Lie | None:
        """Return the lie for a request, the newest first."""
        for where, lie, left in reversed(self._lies):
            if left[0] and where.search(f"{method} {path}"):
                left[0] -= 1
                return lie
        return None

    def asked(self, where: str) -> list[Seen]:
        """Return the requests in whose "METHOD path" `where` is found."""
        pattern = re.compile(where)
        return [one for one in self.seen if pattern.search(f"{one.method} {one.path}")]

    def expire_tokens(self) -> None:
        """No token given so far is good any more."""
        self.granted.clear()

    def handle_error(self, *_: Any) -> None:
        """Stay silent: clients leave early on purpose."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class Conversation(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30
    server: HostileRegistry
    _body: bytes | None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        certificate = None
        if self.server.scheme == "https":
            certificate = str(self.connection.getpeercert() or "") or None
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, certificate))
        self._body = None
        lie = self.server.lie_for(self.command, self.path)
        if lie is None:
            self.tell(self.truth())
        else:
            lie(self)
            # What was not read would be taken for the next request.
            self.read_body()

    # --- ways to answer --------------------------------------------------------------

    def truth(self) -> Truth:
        """Return what an honest registry answers; does what was asked."""
        return _Honest(self).answer()

    def tell(self, what: Truth) -> None:
        """Send an answer as it is."""
        self.begin(what.status, {"Content-Length": str(len(what.body)), **what.headers})
        if self.command != "HEAD":
            self.give(what.body)

    def say(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        self.tell(Truth(status, headers or {}, body))

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Send status and headers; header values of "" are left out."""
        self.read_body()
        self.send_response_only(status)
        for name, text in headers.items():
            if text:
                self.send_header(name, text)
        self.end_headers()

    def give(self, data: bytes) -> None:
        """Send a part of a body."""
        self.wfile.write(data)
        self.server.sent += len(data)

    def hang_up(self) -> None:
        """End the connection as a crash would."""
        self.close_connection = True

    def keep_waiting(self) -> None:
        """Hold the connection open until the test ends."""
        self.server.over.wait()
        self.close_connection = True

    def read_body(self) -> bytes:
        """Return the request's body."""
        if self._body is None:
            self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Transfer-Encoding") == "chunked":
                self._body = self._read_chunks()
        return self._body

    def _read_chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class _Honest:
    """What an honest registry answers to one request, and does for it."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.server = talk.server
        parts = urlsplit(talk.path)
        self.path = parts.path
        self.query = {key: one[-1] for key, one in parse_qs(parts.query).items()}
        self.method = "GET" if talk.command == "HEAD" else talk.command

    def answer(self) -> Truth:
        if self.path == "/token":
            return self._token()
        found = _ROUTE.fullmatch(self.path)
        name = None if found is None else found["name"]
        refused = self._refused(name)
        if refused is not None:
            return refused
        if found is None or name is None:
            return Truth(200, {}, b"{}") if self.path == "/v2/" else _error(404, "PATH")
        held = self.server.of(name)
        if found["upload"] is not None:
            return self._upload(held, name, found["upload"])
        if found["reference"] is not None:
            return self._manifest(held, name, found["reference"])
        if found["blob"] is not None:
            return self._blob(held, found["blob"])
        if found["tags"] is not None:
            return self._tags(held, name)
        return self._referrers(held, found["subject"])

    # --- who may ---------------------------------------------------------------------

    def _refused(self, name: str | None) -> Truth | None:
        said = self.talk.headers.get("Authorization", "")
        login = self.server.login
        if login is None or (not self.server.tokens and said == basic(*login)):
            return None
        if not self.server.tokens:
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="x"'})
        action = "pull" if self.method == "GET" else "push"
        scope = f"repository:{name}:{action}"
        if said.startswith("Bearer "):
            granted = self.server.granted.get(said.removeprefix("Bearer "))
            if granted is not None and (name is None or scope in granted):
                return None
        wanted = (
            "" if name is None else f',scope="repository:{name}:{_actions(action)}"'
        )
        challenge = f'Bearer realm="{self.server.realm}",service="hostile"{wanted}'
        return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})

    def _token(self) -> Truth:
        login = self.server.login
        if login is None or self.talk.headers.get("Authorization") != basic(*login):
            return _error(401, "UNAUTHORIZED")
        granted = set()
        query = parse_qs(urlsplit(self.talk.path).query)
        for scope in " ".join(query.get("scope", [])).split():
            kind, _, actions = scope.rpartition(":")
            granted |= {f"{kind}:{action}" for action in actions.split(",")}
        token = secrets.token_urlsafe(16)
        self.server.granted[token] = granted
        return _document({"token": token, "expires_in": 300})

    # --- what is there ---------------------------------------------------------------

    def _manifest(self, held: Holdings, name: str, reference: str) -> Truth:
        if self.method == "PUT":
            return self._put_manifest(held, name, reference)
        digest = held.tags.get(reference, reference)
        if digest not in held.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        if self.method == "DELETE":
            del held.manifests[digest]
            held.tags = {tag: one for tag, one in held.tags.items() if one != digest}
            return Truth(202, {})
        kind, data = held.manifests[digest]
        return Truth(200, {"Content-Type": kind, "Docker-Content-Digest": digest}, data)

    def _put_manifest(self, held: Holdings, name: str, reference: str) -> Truth:
        data = self.talk.read_body()
        tag = None if reference.startswith("sha256:") else reference
        if tag is None and reference != digest_of(data):
            return _error(400, "DIGEST_INVALID")
        kind = self.talk.headers.get("Content-Type", IMAGE)
        digest = held.add_manifest(data, tag=tag, kind=kind)
        headers = {
            "Location": f"/v2/{name}/manifests/{digest}",
            "Docker-Content-Digest": digest,
        }
        subject = json.loads(data).get("subject")
        if subject and self.server.referrers:
            headers["OCI-Subject"] = subject["digest"]
        return Truth(201, headers)

    def _blob(self, held: Holdings, digest: str) -> Truth:
        if digest not in held.blobs:
            return _error(404, "BLOB_UNKNOWN")
        data = held.blobs[digest]
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
        }
        span = re.fullmatch(
            r"bytes=([0-9]+)-([0-9]*)", self.talk.headers.get("Range", "")
        )
        if span is None:
            return Truth(200, headers, data)
        start, end = int(span[1]), int(span[2] or len(data) - 1)
        if start >= len(data):
            return Truth(416, {"Content-Range": f"bytes */{len(data)}"})
        part = data[start : end + 1]
        told = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        return Truth(206, {**headers, "Content-Range": told}, part)

    def _upload(self, held: Holdings, name: str, upload: str) -> Truth:
        uploads, data = self.server.uploads, self.talk.read_body()
        if self.method == "POST":
            for other in self.server.holdings.values():
                if (mount := self.query.get("mount")) in other.blobs:
                    held.add_blob(other.blobs[mount])
                    return Truth(201, {"Location": f"/v2/{name}/blobs/{mount}"})
            upload = secrets.token_hex(8)
            uploads[upload] = b""
        elif upload not in uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        if self.method == "PATCH":
            said = self.talk.headers.get("Content-Range", f"{len(uploads[upload])}-")
            if int(said.partition("-")[0]) != len(uploads[upload]):
                return self._at(name, upload, 416)
        uploads[upload] += data
        if self.method == "PUT" or "digest" in self.query:
            done = uploads.pop(upload)
            if digest_of(done) != self.query.get("digest"):
                return _error(400, "DIGEST_INVALID")
            where = f"/v2/{name}/blobs/{held.add_blob(done)}"
            return Truth(201, {"Location": where})
        return self._at(name, upload, 204 if self.method == "GET" else 202)

    def _at(self, name: str, upload: str, status: int) -> Truth:
        last = max(len(self.server.uploads[upload]) - 1, 0)
        where = f"/v2/{name}/blobs/uploads/{upload}"
        return Truth(status, {"Location": where, "Range": f"0-{last}"})

    # --- lists -----------------------------------------------------------------------

    def _tags(self, held: Holdings, name: str) -> Truth:
        last = self.query.get("last", "")
        most = min(int(self.query.get("n", self.server.page)), self.server.page)
        rest = [tag for tag in sorted(held.tags) if tag > last]
        answer = _document({"name": name, "tags": rest[:most]})
        if rest[most:]:
            more = f"/v2/{name}/tags/list?n={most}&last={rest[most - 1]}"
            answer.headers["Link"] = f'<{more}>; rel="next"'
        return answer

    def _referrers(self, held: Holdings, subject: str) -> Truth:
        if not self.server.referrers:
            return _error(404, "NOT_FOUND")
        kind = self.query.get("artifactType")
        skip = int(self.query.get("skip", 0))
        entries = []
        for digest, (media_type, data) in sorted(held.manifests.items()):
            manifest = json.loads(data)
            if (manifest.get("subject") or {}).get("digest") != subject:
                continue
            what = manifest.get("artifactType") or manifest["config"]["mediaType"]
            if kind in (None, what):
                entry = {"mediaType": media_type, "digest": digest, "size": len(data)}
                entries.append({**entry, "artifactType": what})
        end = skip + self.server.page
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries[skip:end]}
        answer = _document(index, INDEX)
        if kind is not None:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        if entries[end:]:
            wanted = "" if kind is None else f"&artifactType={quote(kind, safe='')}"
            answer.headers["Link"] = f'<{self.path}?skip={end}{wanted}>; rel="next"'
        return answer


def digest_of(data: bytes) -> str:
    """Return the digest of these bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _actions(action: str) -> str:
    return "pull,push" if action == "push" else "pull"


def _document(document: dict[str, Any], kind: str = "application/json") -> Truth:
    return Truth(200, {"Content-Type": kind}, json.dumps(document).encode())


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Truth:
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    return Truth(status, {"Content-Type": "application/json", **(headers or {})}, body)
