"""A real web server on loopback that answers as a test tells it to, true or not."""

from __future__ import annotations

import http.server
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.world.sources import Files

    Answer = Callable[["Conversation"], None]


class Conversation(http.server.BaseHTTPRequestHandler):
    """One connection; answers with what the server has for the path."""

    protocol_version = "HTTP/1.1"
    # Head and body are two small writes; joining them would cost 40 ms each.
    disable_nagle_algorithm = True
    server: Liar

    def do_GET(self) -> None:
        self.server.connections.add(self.client_address)
        self.server.requests.append((self.path, dict(self.headers.items())))
        self.server.answer(self.path)(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def body(self) -> bytes:
        """Read what came with the request, to its announced end."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def say(self, status: int, body: bytes = b"", **headers: str | None) -> None:
        """Send an honest answer, but for `headers`; None leaves one out."""
        told = {"Content-Length": str(len(body))}
        told.update({name.replace("_", "-"): text for name, text in headers.items()})  # type: ignore[misc]  # headers are texts
        self.send_response(status)
        for name, text in told.items():
            if text is not None:
                self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        """End the connection as a crash would, without a word."""
        self.wfile.flush()
        self.close_connection = True

    def keep_waiting(self) -> None:
        """Hold the connection open until the test ends."""
        self.wfile.flush()
        self.server.over.wait()
        self.close_connection = True

    def drip(self, data: bytes) -> None:
        """Send `data` for ever, a byte now and then, until the other side leaves."""
        try:
            while True:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    if self.server.over.wait(0.01):
                        return
        except OSError:
            return
        finally:
            self.close_connection = True


class Liar(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves `answers[path]`: the next of a list, the last of it again and again."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.scheme = "http" if tls is None else "https"
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections: set[tuple[str, int]] = set()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    def answers_with(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def serves(self, path: str, body: bytes) -> None:
        self.answers_with(path, lambda talk: talk.say(200, body))

    def answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [_absent])
        return answers.pop(0) if len(answers) > 1 else answers[0]

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


def _absent(talk: Conversation) -> None:
    talk.say(404, b"no such file")


def statuses(*numbers: int) -> list[Answer]:
    """Return answers with these statuses and nothing else."""

    def one(status: int) -> Answer:
        return lambda talk: talk.say(status)

    return [one(number) for number in numbers]


def says(data: bytes, *, ends: bool = False) -> Answer:
    """Answer with these bytes, head and all."""

    def answer(talk: Conversation) -> None:
        talk.wfile.write(data)
        if ends:
            talk.hang_up()

    return answer


def serve(liar: Liar, files: Files) -> None:
    """Serve everything as it lies, over HTTP."""
    for name, data in files.metadata.items():
        liar.serves(f"/metadata/{name}", data)
    for (path, digest), data in files.targets.items():
        directory, _, name = path.rpartition("/")
        liar.serves(f"/targets/{directory}/{digest}.{name}", data)
    for digest, data in files.blobs.items():
        liar.serves(f"/blobs/{digest.replace(':', '/')}", data)
