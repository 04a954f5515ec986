"""A server that pours messages of TLS itself where the answer's body should come."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Final, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registries.certificates import Authority

_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
_SECRET: Final = "SERVER_TRAFFIC_SECRET_0"
# RFC 8446 §4.6.1: lifetime, age, nonce, the ticket itself, no extensions.
_TICKET: Final = b"\0\0\0\x64" + bytes(4) + b"\1\0" + b"\0\3abc" + b"\0\0"
_HANDSHAKE: Final = b"\x16"
_HEADER: Final = b"\x17\x03\x03"


class TicketFlood:
    """Answers every request with headers, and then session tickets without end.

    Python's TLS sends none by itself, so they are encrypted here with the keys of its
    connection.

    Args:
        authority: that the server's certificate is from.
        directory: for the log of keys.
    """

    def __init__(self, authority: Authority, directory: Path) -> None:
        self._keys = directory / "keys.log"
        self._context = authority.server_context()
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.num_tickets = 0
        self._context.keylog_filename = str(self._keys)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}/"
        self.over = threading.Event()
        self.poured = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            try:
                # One after the other: the last keys are those of this connection.
                secret = self._greet(peer)
            except OSError:
                peer.close()
                continue
            flood = threading.Thread(
                target=self._pour, args=(peer, secret), daemon=True
            )
            flood.start()

    def _greet(self, peer: socket.socket) -> bytes:
        read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(read, written, server_side=True)
        head, is_greeted = b"", False
        while b"\r\n\r\n" not in head:
            try:
                if is_greeted:
                    head += tls.read(1 << 14)
                else:
                    tls.do_handshake()
                    is_greeted = True
                peer.sendall(written.read())
            except ssl.SSLWantReadError:
                peer.sendall(written.read())
                data = peer.recv(1 << 14)
                if not data:
                    raise ConnectionAbortedError from None
                read.write(data)
        tls.write(_HEAD)
        peer.sendall(written.read())
        lines = self._keys.read_text().splitlines()
        mine = [line for line in lines if line.startswith(_SECRET)][-1]
        return bytes.fromhex(mine.split()[-1])

    def _pour(self, peer: socket.socket, secret: bytes) -> None:
        key = AESGCM(_expanded(secret, b"key", 32))
        start = _expanded(secret, b"iv", 12)
        message = b"\4" + len(_TICKET).to_bytes(3, "big") + _TICKET
        record = message * 600 + _HANDSHAKE
        header = _HEADER + struct.pack(">H", len(record) + 16)
        number = 1  # the headers were the first record
        while not self.over.is_set():
            count = bytes(4) + struct.pack(">Q", number)
            nonce = bytes(one ^ other for one, other in zip(start, count, strict=True))
            try:
                peer.sendall(header + key.encrypt(nonce, record, header))
            except OSError:
                break
            number += 1
            self.poured += len(record)
        peer.close()


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    # RFC 8446 §7.1 for TLS_AES_256_GCM_SHA384, which OpenSSL's servers prefer.
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + b"\0"
    return hmac.new(secret, info + b"\1", hashlib.sha384).digest()[:length]
