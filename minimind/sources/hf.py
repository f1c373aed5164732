"""`hf://<organisation>/<name>/<path>@<revision>`: a file of a data set on the Hugging Face hub, or at HF_ENDPOINT."""

import re
from dataclasses import dataclass

import httpx2
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from minimind.sources.http import HttpRemote, check, interruption
from minimind.sources.remote import RemoteSource
from minimind.sources.source import FetchError
from minimind.sources.transfer import Remote, UnreachableError


@dataclass(frozen=True, kw_only=True)
class HubSource(RemoteSource):
    """A file of a data set; without a revision, that of its main branch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        split(self.uri, "main")

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return split(self.uri, "main")[1].rpartition("/")[2]

    def locate(self) -> Remote:
        """The commit behind the revision, and what the hub knows of the file there."""
        repository, path, revision = split(self.uri, "main")
        hub = huggingface_hub.HfApi()
        try:
            commit = hub.repo_info(repository, repo_type="dataset", revision=revision, timeout=10).sha
            found = hub.get_paths_info(repository, path, repo_type="dataset", revision=commit)
        except HfHubHTTPError as error:
            check(error.response, self.uri)
            raise FetchError(f"{self.uri}: {error}") from error
        except httpx2.HTTPError as error:
            raise interruption(error) from error
        except OfflineModeIsEnabled as error:
            raise UnreachableError("HF_HUB_OFFLINE is set") from error
        except HFValidationError as error:
            raise FetchError(f"{self.uri}: {error}") from error
        entry = next((entry for entry in found if isinstance(entry, huggingface_hub.RepoFile)), None)
        if entry is None:
            raise FetchError(
                f"{self.uri}: {repository} has no file {path} at {revision}: look into it at {hub.endpoint}"
            )
        url = huggingface_hub.hf_hub_url(repository, path, repo_type="dataset", revision=commit, endpoint=hub.endpoint)
        token = huggingface_hub.get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if entry.lfs is None:  # small: in git itself, whose digest the hub sends as ETag
            return HttpRemote(entry.size, None, f'"{entry.blob_id}"', url, headers)
        return HttpRemote(entry.size, entry.lfs.sha256, None, url, headers)

    def by_hand(self) -> str:
        """With the hub's own client."""
        repository, path, revision = split(self.uri, "main")
        return f"hf download {repository} '{path}' --repo-type dataset --revision {revision} --local-dir ."


def split(uri: str, default: str) -> tuple[str, str, str]:
    """Repository, path and revision of <kind>://<organisation>/<name>/<path>@<revision>. Raises ValueError."""
    match = re.fullmatch(r"\w+://([\w.-]+/[\w.-]+)/([^@]*[^@/])(?:@([\w./-]+))?", uri)
    if match is None:
        raise ValueError(f"the uri {uri} is not of the form {uri.partition(':')[0]}://organisation/name/path@revision")
    return match[1], match[2], match[3] or default
