"""`https://…`: a file behind an address."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx2

from minimind.sources.remote import RemoteSource
from minimind.sources.source import FetchError
from minimind.sources.transfer import Remote, TransientError, UnreachableError, seconds

TIMEOUT = httpx2.Timeout(30.0, connect=5.0)
BUSY = (408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)


@dataclass
class HttpRemote(Remote):
    """A file that answers to GET, best with Range."""

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a token

    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        """Source: RFC 9110, sections 13.1.5 (If-Range), 14 (Range), 15.5.17 (416)."""
        headers = {**self.headers, "Accept-Encoding": "identity"}  # as it lies there, so that lengths can be compared
        if offset:
            headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": etag} if etag else {})
        try:
            with httpx2.stream("GET", self.url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
                if offset and response.status_code == 416:
                    if self._total(response) != offset:  # what is here is of another file
                        yield from self.blocks(0, None)
                    return
                check(response, self.url)
                position = offset if response.status_code == 206 else 0
                if position and not response.headers.get("Content-Range", "").startswith(f"bytes {position}-"):
                    raise FetchError(f"{self.url}: asked for the bytes from {position} on, it sent others")
                self.etag = response.headers.get("ETag") or self.etag
                if self.size is None:
                    self.size = self._total(response)
                for block in response.iter_raw():  # as it comes: what is here when it breaks off is kept
                    if position == 0 and block[:256].lstrip().lower().startswith((b"<!doctype html", b"<html")):
                        raise FetchError(_page(self.url))
                    yield position, block
                    position += len(block)
        except httpx2.HTTPError as error:
            raise interruption(error) from error

    def _total(self, response: httpx2.Response) -> int | None:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code == 200:
            total = response.headers.get("Content-Length", "")
        return int(total) if total.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class HttpSource(RemoteSource):
    """A file at an address, of which a change can be noticed where the server sends an ETag."""

    def locate(self) -> Remote:
        """Ask with HEAD, which not every server answers: then nothing is known beforehand."""
        try:
            response = httpx2.head(
                self.uri, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT, follow_redirects=True
            )
        except httpx2.HTTPError as error:
            raise interruption(error) from error
        if response.status_code in (404, 410) or response.is_success:
            check(response, self.uri)
        if not response.is_success:
            return HttpRemote(url=self.uri)
        length = response.headers.get("Content-Length", "")
        return HttpRemote(int(length) if length.isdigit() else None, None, response.headers.get("ETag"), self.uri)

    def by_hand(self) -> str:
        """With curl."""
        return f"curl -L -o '{self.file_name}' '{self.uri}'"


def check(response: httpx2.Response, name: str) -> None:
    """Raise TransientError where a server is busy, FetchError where it refuses or sends a web page."""
    status = response.status_code
    if status in BUSY:
        raise TransientError(f"{response.url.host} answers {status}", seconds(response.headers.get("Retry-After")))
    if status in (401, 403):
        raise FetchError(
            f"{name}: {response.url.host} refuses it ({status}). It may want you to accept terms on its page, or a "
            "token: HF_TOKEN or `hf auth login` for hf://, MODELSCOPE_API_TOKEN for modelscope://"
        )
    if status in (404, 410):
        raise FetchError(f"{name}: {response.url.host} has no such file ({status}): check the uri and its revision")
    if status not in (200, 206):
        raise FetchError(f"{name}: {response.url.host} answers {status}, expected the file")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise FetchError(_page(name))


def interruption(error: httpx2.HTTPError) -> TransientError:
    """A failure of the connection, in our terms."""
    kind = UnreachableError if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)) else TransientError
    return kind(str(error) or type(error).__name__)


def _page(name: str) -> str:
    return (
        f"{name}: a web page came in place of data. A login or a proxy may stand in between, or the address is that of "
        "a page about the file: look at it in a browser, and take the address of the download itself"
    )
