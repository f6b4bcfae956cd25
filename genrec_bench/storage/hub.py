"""The Hugging Face hub: whether a model can be had from it, found out within seconds.

Transformers asks for file after file, each again and again, and then says something else.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from genrec_bench.errors import UserError, one_line
from genrec_bench.storage.in_time import in_time

PATIENCE = 8.0
"""Seconds in which the hub must answer."""

CONFIGURATIONS = ("config.json", "modules.json")
"""Files one of which any model has: of transformers, and of sentence-transformers."""

_REVISIONS: dict[str, str | None] = {}
"""Commits of models that the hub was asked for."""

REFUSED = (401, 403, 404)
"""What the hub answers where there is no such model, or none for this user."""


class NoSuchModelError(UserError):
    """The hub has no model of that name, or where it may not be asked its cache has none."""


@functools.lru_cache
def hub_files(name: str, asked: str) -> frozenset[str]:
    """Return the names of the files of a model: of the hub, or of its cache where it is offline.

    A hub that cannot be reached is not asked again in this process, if the model is in the cache.

    Args:
        asked: begins a message: the option, such as ``--backbone NAME``.

    Raises:
        NoSuchModelError: there is none of that name.
        UserError: the model cannot be had for another reason; the message says what to do.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        cached = _cached(name)
        if constants.is_offline_mode():
            if cached:
                return cached
            raise NoSuchModelError(
                f"{asked}: is not in the cache of the Hugging Face hub, and HF_HUB_OFFLINE is set; "
                f"fetch it where there is a network (hf download {name}), or give a folder"
            )
        info = in_time(lambda: HfApi().model_info(name, timeout=PATIENCE), PATIENCE)
    except HFValidationError as error:
        raise UserError(f"{asked}: is no name of the hub: {one_line(error)}") from None
    except UserError:
        raise
    # Below it are the errors of whatever library the hub's uses for its requests.
    except Exception as error:
        response = getattr(error, "response", None) if isinstance(error, HfHubHTTPError) else None
        code = getattr(response, "status_code", None)
        if code in REFUSED:
            raise NoSuchModelError(
                f"{asked}: the Hugging Face hub has no such model, or not for you (it answers "
                f"{code}); see the name, and `hf auth login` for a model behind a licence"
            ) from None
        if cached:
            os.environ["HF_HUB_OFFLINE"] = "1"  # for processes that are started from here
            constants.HF_HUB_OFFLINE = True
            return cached
        why = f"it answers {code}" if code else one_line(error) or type(error).__name__
        raise UserError(
            f"{asked}: the Hugging Face hub cannot be reached ({why}), and the model is not in its "
            "cache; give a folder, or fetch it where there is a network "
            f"(hf download {name})"
        ) from None
    _REVISIONS[name] = info.sha
    return frozenset(sibling.rfilename for sibling in info.siblings or ())


def hub_revision(name: str) -> str | None:
    """Return the commit of a model that is going to be used: the cached one, or the hub's.

    None where neither is known: what lies in the cache under no name, or was not asked for yet.
    """
    return cached_revision(name) or _REVISIONS.get(name)


def cached_revision(name: str) -> str | None:
    """Return the commit of a model that lies in the hub's cache, None where none does."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent.name if isinstance(found, str) else None


def _cached(name: str) -> frozenset[str]:
    """Return the names of the files that an earlier download left; none where there is none."""
    from huggingface_hub import try_to_load_from_cache

    for file in CONFIGURATIONS:
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return frozenset(path.name for path in Path(found).parent.iterdir())
    return frozenset()
