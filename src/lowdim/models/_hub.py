"""Files of the Hugging Face hub: from the cache, or downloaded after saying so."""

import os
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from lowdim.errors import InputError, require

PATIENCE = 2.5
"""Seconds until a hub that does not answer counts as out of reach; its own library tries for a minute."""


def cached_or_downloaded(repository: str, file: str, *, offline: bool) -> Path:
    """A file of a hub repository.

    Raises:
        InputError: If it is not in the cache and may not, or cannot, be downloaded.
    """
    hub = require("huggingface_hub", "A model of the hub")
    cached = hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    if offline:
        raise InputError(f"{file} of {repository} is not in the cache, and `offline` forbids to download it.")
    announce(f"{file} of {repository}")
    try:
        return Path(hub.hf_hub_download(repository, file))
    except (hub.errors.LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{file} of {repository} cannot be downloaded ({type(error).__name__}). Give local weights with `weights=FILE`."
        ) from error
    except hub.errors.EntryNotFoundError as error:
        raise InputError(f"{repository} has no {file}; lowdim loads no pickles from the hub.") from error
    except hub.errors.HfHubHTTPError as error:
        raise InputError(f"The hub does not give {file} of {repository}: {str(error).splitlines()[0]}") from error


def announce(what: str) -> None:
    """Says that something is downloaded, if the hub can be reached.

    Raises:
        InputError: If it cannot, within seconds and with the reason.
    """
    constants = require("huggingface_hub.constants", "A model of the hub")
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT)
    if reason:
        raise InputError(
            f"{what} is not in the cache, and {constants.ENDPOINT} cannot be reached: {reason}. Connect, or give local weights with "
            "`weights=FILE` or a folder."
        )
    print(f"Downloading {what} …", file=sys.stderr, flush=True)


def _unreachable(endpoint: str) -> str:
    """Why no connection to a server, or to the proxy on the way to it, can be opened; empty if one can."""
    scheme = urlsplit(endpoint).scheme
    proxy = next(
        (os.environ[name] for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()) if os.environ.get(name)), ""
    )
    address = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else urlsplit(endpoint)
    reasons = [f"no answer in {PATIENCE:g} seconds"]

    def connect() -> None:
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname or "", port), timeout=PATIENCE).close()
            reasons.append("")
        except (OSError, ValueError) as error:
            reasons.append(str(error))

    # Looking up a name has no limit of its own.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(PATIENCE)
    return reasons[-1]
