"""Files of the Hugging Face hub: from the cache, or downloaded after saying so."""

import sys
from pathlib import Path

from lowdim.errors import InputError, require


def cached_or_downloaded(repository: str, file: str, *, offline: bool) -> Path:
    """A file of a hub repository.

    Args:
        repository: ``ORG/NAME``.
        file: Its name there.
        offline: Use the cache only.

    Raises:
        InputError: If it is not in the cache and may not, or cannot, be downloaded.
    """
    hub = require("huggingface_hub", "A model of the hub")
    cached = hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    if offline:
        raise InputError(f"{file} of {repository} is not in the cache, and `offline` forbids to download it.")
    print(f"Downloading {file} of {repository} …", file=sys.stderr, flush=True)
    try:
        return Path(hub.hf_hub_download(repository, file))
    except hub.errors.EntryNotFoundError as error:
        raise InputError(f"{repository} has no {file}; lowdim loads no pickles from the hub.") from error
    except (OSError, hub.errors.HfHubHTTPError) as error:
        raise InputError(
            f"{file} of {repository} cannot be downloaded ({type(error).__name__}). Give local weights with `weights=FILE`."
        ) from error
