"""What does clustering cost beside reading the texts? Semantic entropy of 1,000 sets of 10 samples against the
embedding model alone, on the same distinct texts.

python tests/benchmarks/bench_semantic_entropy.py        about five minutes; prints the result as JSON
"""

import json
import statistics
import sys
import time

import numpy as np

N_SETS, SAMPLES, RUNS = 1000, 10, 3
BATCH_SIZE = 64


def sample_sets(n_sets: int, seed: int = 0) -> tuple[list[str], list[list[str]], np.ndarray]:
    """Questions, responses and log-likelihoods: ways to say five things a question, one text in five drawn twice."""
    rng = np.random.default_rng(seed)
    subjects = [f"the {adjective} {noun}" for adjective in "old kind angry quiet rich".split() for noun in NOUNS]
    questions, responses = [], []
    for s in range(n_sets):
        things = [(rng.choice(subjects), rng.choice(VERBS), rng.choice(PLACES)) for _ in range(5)]
        texts = []
        for _ in range(SAMPLES):
            subject, verb, place = things[rng.integers(len(things))]
            opening, ending = OPENINGS[rng.integers(len(OPENINGS))], ENDINGS[rng.integers(len(ENDINGS))]
            texts.append(f"{opening} {subject} {verb} {place} on day {s}{ending}")
        texts[-2:] = texts[:2]
        questions.append(f"What happened on day {s}?")
        responses.append(texts)
    return questions, responses, -rng.gamma(2.0, size=(n_sets, SAMPLES))


NOUNS = "neighbour teacher doctor driver student grandfather nurse waiter".split()
VERBS = ["helped a stranger", "shouted at a child", "refused to answer", "told a long and rather dull story", "left"]
PLACES = ["at home", "in the street", "near the station where the trains to the coast depart", "at work", "in town"]
OPENINGS = ["I think that", "As far as I know,", "It seems that", "", "Yes, and I am sorry to say that"]
ENDINGS = [".", ", as people said.", ", and that was wrong.", " and nobody knew why, which is a pity.", "!"]


def ours(questions: list[str], responses: list[list[str]], log_likelihoods: np.ndarray) -> np.ndarray:
    """Cluster ids by embedding, then semantic entropy, nats [set]."""
    from mechmsc import uncertainty

    clusterer = uncertainty.CLUSTERERS["embedding"](batch_size=BATCH_SIZE)
    return uncertainty.semantic_entropy(log_likelihoods, np.stack(clusterer(questions, responses)))


def peer(model: object, responses: list[list[str]]) -> np.ndarray:
    """Embeddings of the distinct texts, as sentence-transformers computes them by itself."""
    texts = sorted({text for texts in responses for text in texts})
    return model.encode(texts, batch_size=BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False)


def timed(call: object) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run(n_sets: int = N_SETS, runs: int = RUNS) -> dict[str, dict]:
    """Median over `runs` pairs of our time over that of the embedding model alone: smaller is better. Limit: 1.2."""
    import torch
    from sentence_transformers import SentenceTransformer

    from mechmsc.uncertainty.clusterers.embeddings import _wheel_folder

    model = SentenceTransformer(str(_wheel_folder()), device="cpu", local_files_only=True).eval()
    questions, responses, log_likelihoods = sample_sets(n_sets)
    ours(questions[:5], responses[:5], log_likelihoods[:5])
    peer(model, responses[:5])
    pairs = [
        (timed(lambda: ours(questions, responses, log_likelihoods)), timed(lambda: peer(model, responses)))
        for _ in range(runs)
    ]
    ratios = [a / b for a, b in pairs]
    distinct = len({text for texts in responses for text in texts})
    note = (
        f"{n_sets} sets of {SAMPLES} samples, {distinct} distinct texts, embedded, clustered and measured, over the "
        f"embedding model alone on those texts, smaller is better, at most 1.2; {torch.get_num_threads()} threads; "
        f"ratio of each run {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
    )
    return {
        "semantic_entropy": {
            "ratio": round(statistics.median(ratios), 3),
            "ours_s": round(statistics.median(a for a, _ in pairs), 2),
            "peer_s": round(statistics.median(b for _, b in pairs), 2),
            "runs": runs,
            "note": note,
        }
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
