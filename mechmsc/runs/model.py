"""The model that made a run, for what is done to the run afterwards."""

from typing import TYPE_CHECKING

from mechmsc.errors import InputError
from mechmsc.runs.reader import Run
from mechmsc.weights import check_name

if TYPE_CHECKING:
    from mechmsc.model import Model


def load_model_of(run: Run, *, model: str | None = None, device: str | None = None) -> "Model":
    """The model of a run as it was loaded then: the same name, dtype and, where it can be, engine; the same revision.

    Args:
        run: from `open_run`.
        model: another name of the same model, e.g. a folder that was moved.
        device: where it goes; None: the CPU.

    Raises:
        InputError: a model from a folder, whose place the run does not hold; else as `load_model`.
        FetchError: the weights cannot be fetched.
    """
    from mechmsc import model as models

    made_by = run.manifest["model"]
    loading = {"name_or_path": model or made_by["name"], "dtype": run.manifest["config"]["dtype"]}
    if model is None:
        try:
            if check_name(made_by["name"]).kind == "hub":
                loading["revision"] = made_by["revision"]
        except InputError as error:  # a folder is remembered by its last name alone
            raise InputError(
                f"{run.path} was made with a model from a folder or file, {made_by['name']!r}; "
                "say where it is: --model PATH"
            ) from error
    # the other engine is the default where it can be, and a run of it is analysed on the bridge elsewhere
    if run.manifest["config"].get("engine") == "bridge":
        loading["engine"] = "bridge"
    if device is not None:
        loading["device"] = device
    return models.load_model(**loading)
