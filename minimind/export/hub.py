"""An exported folder on the Hugging Face hub, or on whatever stands at HF_ENDPOINT."""

from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from minimind.export.contents import ExportError


def push(folder: Path, repository: str, message: str) -> str:
    """Upload the files of `folder` in one commit, making the repository if there is none; return the commit's address.

    The token is huggingface_hub's: HF_TOKEN, or what `hf auth login` has stored. Raises ExportError saying what the
    hub answered.
    """
    hub = huggingface_hub.HfApi()
    try:
        hub.create_repo(repository, exist_ok=True)
        commit = hub.upload_folder(folder_path=folder, repo_id=repository, commit_message=message)
    except (httpx2.HTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
        raise ExportError(
            f"{repository} could not be pushed to {hub.endpoint}: {error}; what was exported stays in {folder}"
        ) from error
    return commit.commit_url
