"""A web server on this computer that misbehaves as set: it cuts, stalls, drips, sends wrong lengths, and counts."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PIECE = 4096


@dataclass(frozen=True)
class Answer:
    """How one request is answered.

    cut: bytes of the body after which the connection ends; stall: bytes after which nothing more comes, -1 for not
    even a header; drip: seconds between single bytes; hold: what is waited for before the answer. ranges, if_range:
    whether these headers are understood. length: what the header claims; framing: "length", "chunked" or "none".
    """

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    ranges: bool = True
    if_range: bool = True
    cut: int | None = None
    stall: int | None = None
    drip: float = 0.0
    hold: threading.Event | None = None
    length: int | None = None
    framing: str = "length"


@dataclass(frozen=True)
class Asked:
    """A request that came in; headers by lower-case name."""

    path: str
    headers: dict[str, str]


class Server:
    """Serves `answers` by path, with or without the query; of a list each is given once, the last one for ever."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._http.block_on_close = False
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def ranges(self, path: str = "") -> list[str]:
        """The Range header of each request for a path, empty where there was none."""
        return [asked.headers.get("range", "") for asked in self.asked if asked.path.startswith(path)]

    def answer(self, asked: Asked) -> Answer:
        """What is to be answered, and note that it was asked."""
        with self._lock:
            self.asked.append(asked)
            for path in (asked.path, asked.path.partition("?")[0]):
                answer = self.answers.get(path)
                if isinstance(answer, list):
                    return answer.pop(0) if len(answer) > 1 else answer[0]
                if answer:
                    return answer
            return Answer(b"nothing here", 404)


@contextmanager
def nobody_listening() -> Iterator[str]:
    """An address of this computer that refuses every connection, and that no other process gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(self.path)

        def do_CONNECT(self) -> None:
            self._answer(f"CONNECT {self.path}")

        def _answer(self, path: str) -> None:
            answer = server.answer(Asked(path, {name.lower(): value for name, value in self.headers.items()}))
            if answer.hold:
                answer.hold.wait()
            if answer.stall == -1:
                server.stopping.wait()
                self.close_connection = True
                return
            try:
                self._write(answer)
            except OSError:  # the client has gone
                self.close_connection = True

        def _write(self, answer: Answer) -> None:
            first = self._first_byte(answer)
            total = len(answer.content)
            if first is not None and first >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = answer.content[first or 0 :]
            self.send_response(answer.status if first is None else 206)
            if first is not None:
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            if answer.etag:
                self.send_header("ETag", answer.etag)
            if answer.framing == "length":
                self.send_header("Content-Length", str(len(body) if answer.length is None else answer.length))
            elif answer.framing == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Connection", "close")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self._write_body(answer, body)

        def _first_byte(self, answer: Answer) -> int | None:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if not match or not answer.ranges or answer.status != 200:
                return None
            condition = self.headers.get("If-Range")
            if condition and answer.if_range and condition != answer.etag:
                return None
            return int(match[1])

        def _write_body(self, answer: Answer, body: bytes) -> None:
            ends = [end for end in (answer.cut, answer.stall, len(body)) if end is not None]
            body = body[: min(ends)]
            step = 1 if answer.drip else PIECE
            for start in range(0, len(body), step):
                piece = body[start : start + step]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.framing == "chunked" else piece)
                self.wfile.flush()
                if answer.drip and server.stopping.wait(answer.drip):
                    break
            if answer.stall is not None:
                server.stopping.wait()
            elif answer.framing == "chunked" and answer.cut is None:
                self.wfile.write(b"0\r\n\r\n")
            if answer.cut is not None or answer.framing == "none" or answer.length is not None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_WR)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
