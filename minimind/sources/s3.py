"""`s3://<bucket>/<key>`: an object of S3 or of whatever stands at AWS_ENDPOINT_URL, read through fsspec."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
from botocore.exceptions import BotoCoreError, EndpointConnectionError, NoCredentialsError

from minimind.sources.remote import RemoteSource
from minimind.sources.source import FetchError
from minimind.sources.transfer import Remote, TransientError, UnreachableError

BLOCK_BYTES = 8 << 20
_PATIENCE = {"retries": {"max_attempts": 1}, "connect_timeout": 5, "read_timeout": 30}  # ours comes on top


@dataclass
class ObjectRemote(Remote):
    """An object that is read range by range."""

    uri: str = ""
    anonymous: bool = False

    def blocks(self, offset: int, etag: str | None) -> Iterator[tuple[int, bytes]]:
        """Where the ETag has changed since, from the start."""
        assert self.size is not None
        try:
            for position in range(offset if etag in (None, self.etag) else 0, self.size, BLOCK_BYTES):
                yield position, _system(self.anonymous).cat_file(self.uri, start=position, end=position + BLOCK_BYTES)
            changed = _info(self.uri, self.anonymous)["ETag"] != self.etag
        except (OSError, BotoCoreError) as error:
            raise TransientError(str(error)) from error
        if changed:
            raise FetchError(f"{self.uri} changed while it was read: fetch again")


@dataclass(frozen=True, kw_only=True)
class S3Source(RemoteSource):
    """An object; credentials are those of AWS's own tools, and none are needed for what is public."""

    def locate(self) -> Remote:
        """Ask for size and ETag."""
        anonymous = False
        try:
            try:
                info = _info(self.uri, anonymous)
            except NoCredentialsError:
                anonymous = True
                info = _info(self.uri, anonymous)
        except EndpointConnectionError as error:
            raise UnreachableError(str(error)) from error
        except FileNotFoundError as error:
            raise FetchError(f"{self.uri}: there is no such object ({error})") from error
        except PermissionError as error:
            raise FetchError(
                f"{self.uri}: access is refused ({error}): set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from error
        except (OSError, BotoCoreError) as error:
            raise TransientError(str(error)) from error
        return ObjectRemote(info["size"], None, info["ETag"], self.uri, anonymous)

    def by_hand(self) -> str:
        """With AWS's own client."""
        return f"aws s3 cp '{self.uri}' ."


def _system(anonymous: bool) -> Any:
    return fsspec.filesystem("s3", anon=anonymous, config_kwargs=_PATIENCE, use_listings_cache=False)


def _info(uri: str, anonymous: bool) -> dict[str, Any]:
    return dict(_system(anonymous).info(uri, refresh=True))
