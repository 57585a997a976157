"""Requests to a web server that can be canceled at any moment, never hang, and say in a sentence why they failed.

A request runs in a thread of its own, which hands over what arrives through a queue. The caller waits on
that queue for a fraction of a second at a time, so a server that keeps silent holds up neither a cancel nor a
time-out, whether in a name look-up, a handshake, a header or a body.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from .. import __version__
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import Reporter

if TYPE_CHECKING:
    import requests

BLOCK = 16 * 1024  # small, so that a slow line still shows progress and a broken one loses little
MOST_DIGITS = 18  # of a length; Python refuses to read thousands
POLL = 0.05  # seconds between two looks at cancel
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
REFUSALS = {
    401: _("it requires a login, or the file does not exist"),
    403: _("access is denied: the file requires a login, or the network blocks the address"),
    404: _("the file does not exist"),
    407: _(
        "the network's proxy requires a user name and password; set them in HTTPS_PROXY as "
        "http://NAME:PASSWORD@PROXY:PORT"
    ),
    410: _("the file no longer exists"),
}
UNTRUSTED = _(
    "the certificate is not trusted; if the network inspects encrypted traffic, set REQUESTS_CA_BUNDLE to the "
    "file with its certificates, or HTTPS_PROXY to its proxy"
)


class SourceError(Exception):
    """Why one source gave no file: half a sentence for the user.

    It never leaves the weights package.

    Args:
        retry: trying again may help; wait: seconds after which the server asks to be tried again.
    """

    def __init__(self, reason: Message, retry: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.retry = retry
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server.

    Tries in a row without progress, seconds before the second try (doubled for each further one), longest wait
    between tries, seconds to connect, seconds without a sign of life.
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    connect: float = 15.0
    silence: float = 30.0


@dataclass(frozen=True)
class Page:
    """The beginning of a small answer: its final address, headers and bytes."""

    address: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_html(self) -> bool:
        """Whether this is a web page instead of a file."""
        return is_html(self.content)


class Connection:
    """Requests of one job: one session with the environment's proxies and certificates, one patience."""

    def __init__(self, reporter: Reporter, patience: RetryPolicy | None = None) -> None:
        import requests

        self.reporter = reporter
        self.patience = patience or RetryPolicy()
        self.session = requests.Session()
        logging.getLogger("urllib3").setLevel(logging.INFO)  # else it writes all addresses to the log of an application
        # A body that is decoded on the way has another length and another hash than the file.
        self.session.headers.update({"User-Agent": f"LightSeg/{__version__}", "Accept-Encoding": "identity"})

    def close(self) -> None:
        """End what is left open."""
        self.session.close()

    def open(self, address: str, headers: Mapping[str, str] | None = None) -> Stream:
        """Send a request; the answer has status 200, 206 or, where a range was asked for, 416.

        Raises:
            SourceError: if the source does not have the file.
        """
        return Stream(self, address, dict(headers or {}))

    def page(self, address: str, limit: int) -> Page:
        """Return the first `limit` bytes of an answer, with as many tries as patience allows.

        Raises:
            SourceError: if the source does not have the file.
        """
        tries = RetryCounter(self)
        while True:
            try:
                with self.open(address) as stream:
                    content = b""
                    for block in stream.blocks():
                        content += block
                        if len(content) >= limit:
                            break
                    return Page(stream.address, stream.headers, content[:limit])
            except SourceError as error:
                tries.wait_after(error)

    def pause(self, seconds: float, reason: Message) -> None:
        """Wait, and show the user why.

        Raises:
            Canceled: if `canceled` returns True.
        """
        self.reporter.step(_("Trying again in {seconds:.0f} s: {reason}").format(seconds=seconds, reason=reason))
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(POLL, left))
            self.reporter.check_canceled()


class RetryCounter:
    """Counts tries in a row without progress, and waits longer after each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._failed = 0

    def progressed(self) -> None:
        """The last try brought something: the count starts again."""
        self._failed = 0

    def wait_after(self, error: SourceError) -> None:
        """Wait before the next try, or raise `error` where another one would not help or too many failed."""
        patience = self._connection.patience
        self._failed += 1
        if not error.retry or self._failed >= patience.tries:
            raise error
        # Random, so that a classroom of computers does not come back in the same second.
        wait = patience.first_wait * 2 ** (self._failed - 1) * random.uniform(0.75, 1.25)
        self._connection.pause(min(max(wait, error.wait or 0.0), patience.longest_wait), error.args[0])


class Stream:
    """An answer, read by a thread: `status`, `headers`, `address` (after redirects) and `blocks`; a context manager."""

    def __init__(self, connection: Connection, address: str, headers: dict[str, str]) -> None:
        self._connection = connection
        self._events: Queue[requests.Response | bytes | Exception | None] = Queue(maxsize=64)
        self._abandoned = threading.Event()
        threading.Thread(target=self._read, args=(address, headers), daemon=True).start()
        patience = connection.patience
        try:
            answer = self._next(patience.connect + patience.silence)
            if isinstance(answer, Exception):
                raise _failure(answer)
            assert answer is not None and not isinstance(answer, bytes)
            self.status = answer.status_code
            self.headers: Mapping[str, str] = answer.headers
            self.address = answer.url
            _check_answer(answer, "Range" in headers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def length(self) -> int | None:
        """Bytes of this body, or None if the server does not state them."""
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() and len(length) <= MOST_DIGITS else None

    @property
    def ends_marked(self) -> bool:
        """Whether a truncated body can be detected."""
        return self.length is not None or "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    def blocks(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            SourceError: if it breaks off or stalls.
            Canceled: if `canceled` returns True.
        """
        received = 0
        while (block := self._next(self._connection.patience.silence)) is not None:
            if isinstance(block, Exception):
                raise SourceError(_("the connection was lost"), retry=True) from None  # it may hold the address
            assert isinstance(block, bytes)
            received += len(block)
            yield block
        if self.length is not None and received < self.length:  # which urllib3 1 takes for the end
            raise SourceError(_("the connection was lost"), retry=True)

    def close(self) -> None:
        """Let the thread end by itself: closing a socket in which it waits would block here."""
        self._abandoned.set()

    def _next(self, limit: float) -> requests.Response | bytes | Exception | None:
        """Return the next event of the reading thread; None after `limit` seconds without one."""
        until = time.monotonic() + limit
        while True:
            self._connection.reporter.check_canceled()
            try:
                return self._events.get(timeout=POLL)
            except Empty:
                if time.monotonic() > until:
                    raise SourceError(_("the server stopped responding"), retry=True) from None

    def _read(self, address: str, headers: dict[str, str]) -> None:
        """Read the answer in a thread and queue its blocks."""
        patience = self._connection.patience
        try:
            with self._connection.session.get(
                address, headers=headers, stream=True, timeout=(patience.connect, patience.silence)
            ) as response:
                self._put(response)
                while not self._abandoned.is_set() and (block := response.raw.read(BLOCK, decode_content=False)):
                    self._put(block)
            self._put(None)
        except Exception as error:  # the reader decides what it means
            self._put(error)

    def _put(self, event: requests.Response | bytes | Exception | None) -> None:
        """Queue an event, unless nothing reads them any more."""
        while not self._abandoned.is_set():
            with suppress(Full):
                self._events.put(event, timeout=POLL)
                return


def is_html(content: bytes) -> bool:
    """Return whether bytes are the beginning of a web page; no checkpoint begins with '<'."""
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def _check_answer(answer: requests.Response, ranged: bool) -> None:
    """Check status, encryption and range of an answer.

    Raises:
        SourceError: if it is not what was asked for.
    """
    addresses = [entry.url for entry in (*answer.history, answer)]
    if addresses[0].startswith("https:") and any(address.startswith("http:") for address in addresses):
        raise SourceError(_("it redirects to an address without encryption"))
    status = answer.status_code
    if status in TEMPORARY:
        reason = _("the server is overloaded or out of order (status {status})")
        raise SourceError(reason.format(status=status), retry=True, wait=_asked_wait(answer))
    if status not in (200, 206) and not (ranged and status == 416):
        raise SourceError(
            _("{reason} (status {status})").format(
                reason=REFUSALS.get(status, _("the server refuses the request")), status=status
            )
        )


def _asked_wait(answer: requests.Response) -> float | None:
    """Return the seconds to wait by the server's Retry-After, or None if it has none in HTTP's format."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    with suppress(InvalidHeader, ValueError, OverflowError):  # the last two for a date that no calendar has
        return Retry().get_retry_after(answer.raw)
    return None


def _failure(error: Exception) -> SourceError:
    """Return the error for a request without an answer, and whether another try may help."""
    from http.client import HTTPException

    import requests

    text = str(error)
    if isinstance(error, requests.exceptions.SSLError) and "certificate" in text.lower():
        return SourceError(UNTRUSTED)
    if isinstance(error, (requests.exceptions.ProxyError, requests.exceptions.InvalidProxyURL)):
        if "Tunnel connection failed: 407" in text:  # in the words of http.client; a port or address may hold 407
            return SourceError(_("{reason} (status 407)").format(reason=REFUSALS[407]))
        return SourceError(_("the network's proxy cannot be reached; check HTTPS_PROXY"), retry=True)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return SourceError(_("it redirects too many times"))
    if any(isinstance(cause, HTTPException) and not isinstance(cause, OSError) for cause in _causes(error)):
        return SourceError(_("it does not answer as a web server does"), retry=True)
    if isinstance(error, (requests.exceptions.Timeout, requests.exceptions.ConnectionError)):
        return SourceError(_("the server cannot be reached, or this computer is offline"), retry=True)
    if isinstance(error, ValueError):  # what all of requests' complaints about an address are
        return SourceError(_("the address cannot be used ({reason})").format(reason=type(error).__name__))
    if isinstance(error, OSError) and "certificate bundle" in text:
        return SourceError(_("the file named by REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE does not exist"))
    return SourceError(_("the request failed ({reason})").format(reason=type(error).__name__), retry=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised for; an answer cut before its first byte is an OSError, too."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
