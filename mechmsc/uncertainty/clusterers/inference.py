"""Responses mean the same when a model of natural language inference (NLI) says that they follow from each other."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechmsc.errors import InputError
from mechmsc.uncertainty.clusterers.record import Clusterer, Texts
from mechmsc.uncertainty.clusterers.single_pass import Entries, single_pass
from mechmsc.uncertainty.clusterers.sources import cannot_load, model_source
from mechmsc.uncertainty.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)
VERDICTS = ("entailment", "neutral", "contradiction")
COLUMNS = ("model", "question", "premise", "hypothesis", *VERDICTS)
"""Of the table of scores: texts, then probabilities that sum to 1."""
Triple = tuple[str, str, str]
"""question, premise, hypothesis"""


def entailment(
    model: str | Path, *, known: "pd.DataFrame | None" = None, batch_size: int = 32, device: str = "cpu"
) -> Clusterer:
    """Clusters by entailment in both directions with the first member of each cluster, see `single_pass`.

    Kuhn et al. 2023, arXiv:2302.09664: question and answer are joined, `question + " " + answer`, given to the model as
    a pair, and a pair entails where entailment is the likeliest of the three verdicts. Each pair of a set is asked at
    most once, the way back only where the way there entails.

    Args:
        model: a folder or hub id of a sequence-classification model whose labels are entailment, neutral and
            contradiction, e.g. microsoft/deberta-large-mnli.
        known: the table of scores of an earlier call (`clusterer.scores()`): what is in it for this model is not
            computed again.
        batch_size: pairs a pass. Probabilities differ by rounding between batch sizes, verdicts only at ties.
        device: where the model runs.

    Returns:
        The clusterer; its `scores()` is a table of model, question, premise, hypothesis and three probabilities, a row
        a directed pair: `known` and all that was asked since. The model is loaded when it is first needed.

    Raises:
        InputError: model is neither folder nor hub id, batch_size below 1, or a column is missing in `known`. The first
            call raises it for labels that are not understood.
    """
    asked = _Inference(model, known, batch_size, device)

    def judge(pairs: list[Triple]) -> np.ndarray:
        there = _likeliest(asked(pairs), "entailment")
        there[there] = _likeliest(asked(_reversed(pairs, there)), "entailment")
        return there

    return _clusterer("entailment", judge, asked)


def non_contradiction(
    model: str | Path, *, known: "pd.DataFrame | None" = None, batch_size: int = 32, device: str = "cpu"
) -> Clusterer:
    """Clusters by the weaker rule: neither direction contradicts, and they are not both neutral; see `single_pass`.

    The default of the code released with Farquhar et al. 2024 (doi:10.1038/s41586-024-07421-0), for longer responses,
    of which one often says a little more. Two responses that have nothing to do with each other are both neutral, and
    do not mean the same.

    Args:
        model: as in `entailment`.
        known: as in `entailment`.
        batch_size: as in `entailment`.
        device: as in `entailment`.

    Returns:
        The clusterer, as in `entailment`.

    Raises:
        InputError: as in `entailment`.
    """
    asked = _Inference(model, known, batch_size, device)

    def judge(pairs: list[Triple]) -> np.ndarray:
        there = asked(pairs)
        same = ~_likeliest(there, "contradiction")
        back = asked(_reversed(pairs, same))
        neutral = ~_likeliest(there[same], "entailment") & ~_likeliest(back, "entailment")
        same[same] = ~_likeliest(back, "contradiction") & ~neutral
        return same

    return _clusterer("non_contradiction", judge, asked)


def _clusterer(name: str, judge_triples: Callable[[list[Triple]], np.ndarray], asked: "_Inference") -> Clusterer:
    """A single pass with a judge of (question, text, text)."""

    def cluster(questions: Sequence[str], responses: Texts, progress: Progress | None) -> list[np.ndarray]:
        entries = Entries.of(responses)
        asked.start(progress)

        def judge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return judge_triples(
                [
                    (questions[entries.sets[a]], entries.texts[a], entries.texts[b])
                    for a, b in zip(first, second, strict=True)
                ]
            )

        return single_pass(entries, judge)

    return Clusterer(name, cluster, {"model": asked.name}, asked.table)


def _likeliest(probabilities: np.ndarray, verdict: str) -> np.ndarray:
    """Whether a verdict is likelier than both others, [pair]; a tie is not."""
    v = VERDICTS.index(verdict)
    return probabilities[:, v] > np.delete(probabilities, v, axis=1).max(axis=1, initial=-np.inf)


def _reversed(pairs: list[Triple], keep: np.ndarray) -> list[Triple]:
    return [(question, b, a) for (question, a, b), kept in zip(pairs, keep, strict=True) if kept]


class _Inference:
    """Verdicts of one NLI model, each computed once; private working state of a clusterer."""

    def __init__(self, model: str | Path, known: "pd.DataFrame | None", batch_size: int, device: str):
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1 pair, got {batch_size}")
        self.name, self.source = str(model), model_source(model, purpose="inference (NLI)")
        self.batch_size, self.device = batch_size, device
        self.start(None)
        self.known: dict[Triple, tuple[float, float, float]] = {}
        if known is not None:
            self._remember(known)

    def start(self, progress: Progress | None) -> None:
        """Count what is computed from here on, and report it."""
        self.progress, self.done = progress, 0

    def _remember(self, known: "pd.DataFrame") -> None:
        missing = [column for column in COLUMNS if column not in known.columns]
        if missing:
            raise InputError(
                f"known scores are a table with columns {', '.join(COLUMNS)}; {', '.join(missing)} missing"
            )
        ours = known[known["model"] == self.name]
        keys = zip(ours["question"], ours["premise"], ours["hypothesis"], strict=True)
        self.known = dict(zip(keys, map(tuple, ours[list(VERDICTS)].to_numpy(float)), strict=True))

    def table(self) -> "pd.DataFrame":
        """All verdicts so far, a row a directed pair."""
        import pandas as pd

        return pd.DataFrame(
            [(self.name, *triple, *scores) for triple, scores in self.known.items()], columns=list(COLUMNS)
        )

    def __call__(self, pairs: list[Triple]) -> np.ndarray:
        """Probabilities [pair, verdict] in the order of `VERDICTS`."""
        new = sorted(dict.fromkeys(pair for pair in pairs if pair not in self.known), key=_length)
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            for pair, scores in zip(batch, _probabilities(batch, self.source, self.device), strict=True):
                self.known[pair] = tuple(scores)  # at once: what was computed survives an interruption
            if self.progress is not None:
                self.progress(self.done + start + len(batch), self.done + len(new))
        self.done += len(new)
        return np.array([self.known[pair] for pair in pairs], dtype=float).reshape(-1, len(VERDICTS))


def _length(pair: Triple) -> tuple[int, Triple]:
    """Long pairs first, and of a pass like lengths; the texts make the order definite."""
    return -sum(map(len, pair)) - len(pair[0]), pair


def _probabilities(pairs: list[Triple], source: str, device: str) -> list[list[float]]:
    """Softmax in float32 over the three verdicts, one pass."""
    import torch

    model, tokenizer, columns = _model(source, device)
    inputs = tokenizer(
        [f"{question} {premise}".strip() for question, premise, _ in pairs],
        [f"{question} {hypothesis}".strip() for question, _, hypothesis in pairs],
        padding=True,
        truncation=True,
        max_length=_longest(model.config, tokenizer),
        return_tensors="pt",
    )
    with torch.no_grad():
        logits = model(**inputs.to(device)).logits.float()
    return logits[:, columns].softmax(dim=-1).cpu().tolist()


def _longest(config: Any, tokenizer: Any) -> int:
    """Tokens of a pair that the model can read; the ends of longer texts are cut."""
    return min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 512)


@functools.lru_cache(maxsize=2)
def _model(source: str, device: str) -> tuple[Any, Any, list[int]]:
    """Model, tokenizer, and the columns of its logits in the order of `VERDICTS`; read once per process."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    options = {"trust_remote_code": False, "local_files_only": Path(source).is_dir()}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        columns = _columns(config.id2label, source)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForSequenceClassification.from_pretrained(source, config=config, **options)
    except InputError:
        raise
    except Exception as error:  # transformers, safetensors and the hub client raise many kinds
        raise cannot_load(source, "inference (NLI)", error) from error
    return model.eval().requires_grad_(False).to(device), tokenizer, columns


def _columns(id2label: dict[int, str], source: str) -> list[int]:
    """Which logit is which verdict, by the labels in the model's config."""
    stems = {"entailment": "entail", "neutral": "neutral", "contradiction": "contradict"}
    found = {
        verdict: [int(i) for i, label in id2label.items() if str(label).strip().lower().startswith(stem)]
        for verdict, stem in stems.items()
    }
    if len(id2label) != len(VERDICTS) or any(len(ids) != 1 for ids in found.values()):
        raise InputError(
            f"expected an NLI model with the labels entailment, neutral and contradiction, but {source} has "
            f"{', '.join(map(str, id2label.values()))}; choose another, or name its labels in id2label of config.json"
        )
    return [found[verdict][0] for verdict in VERDICTS]
