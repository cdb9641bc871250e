"""A ready TransformerLens model from any source of weights, and all that differs between engines.

One set of weights, two forward passes: the Hugging Face model (`hf_model(model)`) draws tokens, the model of the engine
(`engines`: a HookedTransformer or a TransformerBridge) reads and edits; the parameters of the second are those of the
first, or views on them. So never move or cast a loaded model: load it again on the other device, in the other dtype.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mechmsc import settings
from mechmsc.errors import InputError, nearest
from mechmsc.model.engines import build, engine_name
from mechmsc.model.planted import planted_model
from mechmsc.model.pretrained import Loaded, ModelIdentity, load_pretrained
from mechmsc.weights import check_name

if TYPE_CHECKING:
    import transformers

    from mechmsc.model.engines import Model

__all__ = ["ModelIdentity", "check_device", "engine_name", "hf_model", "identity", "load_model", "planted_model"]

DTYPES = {name: getattr(torch, name) for name in settings.DTYPES}


def load_model(
    name_or_path: str | Path = "smollm2-135m-instruct",
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    engine: str | None = None,
    revision: str | None = None,
    verify: bool = False,
    cache: str | Path | None = None,
) -> "Model":
    """A TransformerLens model that shares its parameters with the Hugging Face model that it brings along.

    No process is started, but one: pip, when an embedded model is loaded for the first time and was not fetched before.
    No code from the hub is run. The first time that these weights meet this device, dtype and these versions, the two
    forward passes are compared on a text; the result is remembered. On the device "meta" no weights are read.

    Args:
        name_or_path: an embedded model, a hub id "org/name", a folder in Hugging Face's format, a GGUF file.
        device: "cpu", "cuda", "cuda:1", "mps", "meta".
        dtype: of weights and activations: "float32", "bfloat16", "float16" or the torch dtype.
        engine: "hooked" (HookedTransformer) or "bridge" (TransformerBridge); None: "hooked" where it can be, that is
            with TransformerLens 3 and a text architecture that `config.SUPPORTED` names. Results agree.
        revision: branch, tag or commit of a hub model.
        verify: compare the two forward passes even if that was done before.
        cache: folder for fetched weights and remembered checks; None as in `weights.cache_dir`.

    Returns:
        The model in eval mode, without gradients for its parameters. Its `.tokenizer` is the Hugging Face tokenizer
        with a pad token, padding on the right; text methods add no BOS token. `hf_model` and `identity` give the rest.

    Raises:
        InputError: no such model, device, dtype or engine; an unsupported architecture; files that cannot be read.
        FetchError: the weights cannot be fetched.
        MechmscError: the two forward passes differ by more than they may.
    """
    source = check_name(name_or_path)
    if revision is not None and source.kind != "hub":
        raise InputError(f"a revision is for hub models, but {name_or_path} is not one ({source.kind}); leave it out")
    device, dtype = check_device(device), _check_dtype(dtype)
    loaded = load_pretrained(source, engine=engine, device=device, dtype=dtype, revision=revision, cache=cache)
    model = build(loaded, device=device, dtype=dtype)
    if device.type != "meta":
        from mechmsc.model.parity import check_parity

        check_parity(model, loaded, repeat=verify, cache=cache)
    return model


def hf_model(model: "Model") -> "transformers.PreTrainedModel":
    """The Hugging Face model whose storage `model` shares; InputError for a model that `load_model` did not make."""
    return _loaded(model).hf


def identity(model: "Model") -> ModelIdentity:
    """Name, revision and checksum of the weights; InputError for a model that `load_model` did not make."""
    return _loaded(model).identity


def check_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        InputError: it has not; names those it has.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        here += ["mps"] * torch.backends.mps.is_available()
        raise InputError(f"no device {str(device)!r} here; devices: {', '.join(here)}") from error
    return found


def _check_dtype(dtype: str | torch.dtype) -> torch.dtype:
    if dtype in DTYPES.values():
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {str(dtype)!r}: {nearest(str(dtype), DTYPES)}")
    return DTYPES[dtype]


def _loaded(model: "Model") -> Loaded:
    loaded = getattr(model, "mechmsc", None)
    if loaded is None:
        raise InputError("expected a model made by load_model, got one without its Hugging Face model")
    return loaded
