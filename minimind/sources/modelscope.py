"""`modelscope://<organisation>/<name>/<path>@<revision>`: a file of a data set on ModelScope.

MODELSCOPE_DOMAIN names a mirror.
"""

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import httpx2

from minimind.sources.hf import split
from minimind.sources.http import TIMEOUT, HttpRemote, check, interruption
from minimind.sources.remote import RemoteSource
from minimind.sources.source import FetchError
from minimind.sources.transfer import Remote


@dataclass(frozen=True, kw_only=True)
class ModelScopeSource(RemoteSource):
    """A file of a data set; without a revision, that of its master branch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        split(self.uri, "master")

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return split(self.uri, "master")[1].rpartition("/")[2]

    def locate(self) -> Remote:
        """What ModelScope's listing of the file's folder says."""
        repository, path, revision = split(self.uri, "master")
        domain = os.environ.get("MODELSCOPE_DOMAIN", "www.modelscope.cn")
        endpoint = f"{domain if '://' in domain else f'https://{domain}'}/api/v1/datasets/{repository}/repo"
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        folder = str(PurePosixPath(path).parent)
        query = {"Revision": revision, "Root": "" if folder == "." else folder, "PageNumber": "1", "PageSize": "1000"}
        try:
            response = httpx2.get(
                f"{endpoint}/tree", params=query, headers=headers, timeout=TIMEOUT, follow_redirects=True
            )
        except httpx2.HTTPError as error:
            raise interruption(error) from error
        check(response, self.uri)
        try:
            entries = {entry["Path"]: entry for entry in response.json()["Data"]["Files"]}
        except (ValueError, KeyError, TypeError) as error:
            raise FetchError(f"{self.uri}: {response.url.host} answers without a list of files: {error!r}") from error
        if path not in entries:
            raise FetchError(f"{self.uri}: {repository} has no file {path} at {revision}: look into it at {domain}")
        entry = entries[path]
        url = f"{endpoint}?Revision={quote(revision, safe='')}&FilePath={quote(path, safe='')}"
        return HttpRemote(entry.get("Size"), entry.get("Sha256") or None, None, url, headers)

    def by_hand(self) -> str:
        """With ModelScope's own client."""
        repository, path, revision = split(self.uri, "master")
        return f"modelscope download --dataset {repository} '{path}' --revision {revision} --local_dir ."
