"""What every clusterer keeps to, the single pass against sample after sample, and clusters of equal text."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.uncertainty import one_by_one


@pytest.fixture(scope="module")
def clusterers():
    from mechmsc.uncertainty import clusterers

    return clusterers


@pytest.fixture(scope="module")
def single_pass():
    from mechmsc.uncertainty.clusterers import single_pass

    return single_pass


TEXTS = st.sampled_from(["a", "b", " b", "c", "d", "e", "", "  "])
RELATION = st.sets(st.tuples(*[st.sampled_from("abcde")] * 2))


def clustered(single_pass, responses, relation):
    """Clusters by a relation that need be neither symmetric nor transitive, and the pairs that were asked."""
    entries = single_pass.Entries.of(responses)
    asked = []

    def judge(first, second):
        pairs = [(entries.sets[a], entries.texts[a], entries.texts[b]) for a, b in zip(first, second, strict=True)]
        assert all(entries.sets[a] == entries.sets[b] for a, b in zip(first, second, strict=True))
        asked.extend(pairs)
        return np.array([(a, b) in relation for _, a, b in pairs], dtype=bool)

    return [ids.tolist() for ids in single_pass.single_pass(entries, judge)], asked


@settings(max_examples=150)
@given(responses=st.lists(st.lists(TEXTS, max_size=7), max_size=4), relation=RELATION)
def test_all_sets_at_once_give_the_clusters_and_the_comparisons_of_sample_after_sample(
    single_pass, responses, relation
):
    ids, asked = clustered(single_pass, responses, relation)
    needed = []

    def same(s, a, b):
        needed.append((s, a, b))
        return (a, b) in relation

    assert ids == [one_by_one(texts, lambda a, b, s=s: same(s, a, b)) for s, texts in enumerate(responses)]
    assert set(asked) == set(needed)
    assert len(asked) == len(set(asked))  # none twice
    assert all(a and b and a != b for _, a, b in asked)


def test_without_transitivity_the_order_of_samples_decides_and_the_first_member_stands_for_its_cluster(single_pass):
    chain = {(a, b) for a, b in ("ab", "ba", "bc", "cb")}  # a = b, b = c, but a and c differ
    assert clustered(single_pass, [["a", "b", "c"], ["b", "a", "c"]], chain)[0] == [[0, 0, 1], [0, 0, 0]]


@settings(max_examples=60)
@given(texts=st.lists(TEXTS, min_size=1, max_size=7), seed=st.integers(0, 50))
def test_a_relation_of_equivalence_gives_the_same_clusters_in_any_order(single_pass, texts, seed):
    vowels = {(a, b) for a in "abcde" for b in "abcde" if (a in "ae") == (b in "ae")}
    order = np.random.default_rng(seed).permutation(len(texts))
    [ids], _ = clustered(single_pass, [texts], vowels)
    [again], _ = clustered(single_pass, [[texts[i] for i in order]], vowels)
    together = np.equal.outer(ids, ids)[np.ix_(order, order)]
    np.testing.assert_array_equal(np.equal.outer(again, again), together)


def test_exact_clusters_ignore_case_spacing_and_punctuation_at_the_ends_and_nothing_else(clusterers):
    exact = clusterers.CLUSTERERS["exact"]()
    texts = ["Yes.", " yes", "YES!", "no", "yes and no", "yes  and\nno.", "", " ", "...", "ｙｅｓ"]
    [ids] = exact(["q"], [texts])
    assert ids.tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 4, 0]
    assert exact([], []) == []
    assert [ids.tolist() for ids in exact(["q", "r"], [["a"], []])] == [[0], []]


@settings(max_examples=50)
@given(texts=st.lists(st.text(alphabet="aB .", max_size=3), max_size=6), seed=st.integers(0, 50))
def test_exact_clusters_do_not_depend_on_the_order_of_samples(clusterers, texts, seed):
    order = np.random.default_rng(seed).permutation(len(texts))
    [ids] = clusterers.CLUSTERERS["exact"]()(["q"], [texts])
    [again] = clusterers.CLUSTERERS["exact"]()(["q"], [[texts[i] for i in order]])
    np.testing.assert_array_equal(np.equal.outer(again, again), np.equal.outer(ids, ids)[np.ix_(order, order)])


def test_every_clusterer_has_a_docstring_and_its_name_and_an_nli_model_is_needed_only_where_it_is_used(
    clusterers, tmp_path
):
    (tmp_path / "config.json").write_text("{}")
    for name, make in clusterers.CLUSTERERS.items():
        clusterer = make(tmp_path) if name in ("entailment", "non_contradiction") else make()
        assert clusterer.name == name
        assert make.__doc__


@pytest.mark.parametrize(
    ("questions", "responses", "message"),
    [
        (["q"], [["a"], ["b"]], "one question a set of responses, got 1 and 2"),
        (["q"], ["text"], "as a list of texts, got 'text' in set 0"),
    ],
)
def test_what_are_no_sets_of_texts_is_refused(clusterers, questions, responses, message):
    from mechmsc.errors import InputError

    with pytest.raises(InputError, match=message):
        clusterers.CLUSTERERS["exact"]()(questions, responses)


def test_models_are_folders_or_hub_ids_and_anything_else_is_refused_before_it_is_loaded(clusterers, tmp_path):
    from mechmsc.errors import InputError

    for make in (clusterers.CLUSTERERS["entailment"], clusterers.CLUSTERERS["embedding"]):
        with pytest.raises(InputError, match="config.json"):
            make(tmp_path)
        for name in ("no-such-thing", "./org/name", ""):
            with pytest.raises(InputError, match="a model folder or a hub id"):
                make(name)
        assert make("org/name").settings["model"] == "org/name"
        with pytest.raises(InputError, match="batch_size must be at least 1"):
            make("org/name", batch_size=0)


def test_importing_the_package_loads_nothing_heavy_and_every_public_name_is_documented():
    heavy = ("torch", "transformers", "sentence_transformers", "pandas", "scipy", "rouge_score")
    code = f"import sys, mechmsc.uncertainty as u; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    from mechmsc import uncertainty

    for name in uncertainty.__all__:
        assert getattr(uncertainty, name).__doc__, name
