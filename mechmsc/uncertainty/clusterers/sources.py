"""Where the models that read responses come from: a folder or a hub id."""

import re
from pathlib import Path

from mechmsc.errors import FetchError, InputError, MechmscError


def model_source(model: str | Path, *, purpose: str) -> str:
    """Understand the name of a model as far as that is possible without network: a folder, else a hub id.

    Args:
        model: a folder with config.json, or a hub id (`org/name`).
        purpose: what the model is to do, for the message.

    Returns:
        The folder's path, or the hub id.

    Raises:
        InputError: it is neither.
    """
    path = Path(model).expanduser()
    if str(model) and path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"expected a model folder with config.json for {purpose}, but {path} has none")
        return str(path.resolve())
    if isinstance(model, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith("."):
        return model
    raise InputError(f"expected a model folder or a hub id (org/name) for {purpose}, got {str(model)!r}")


def cannot_load(source: str, purpose: str, error: Exception) -> MechmscError:
    """One line for what a loader raised: the hub out of reach, or files that cannot be read."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if Path(source).is_dir():
        return InputError(f"expected a model for {purpose} in {source}: {reason}")
    return FetchError(f"cannot fetch {source} for {purpose} from the hub: {reason}; to supply it by hand give a folder")
