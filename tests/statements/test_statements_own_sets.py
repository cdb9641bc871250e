"""Our own sets: what makes a contrastive set usable is measured here, so that a new pair cannot spoil it unseen."""

import re
from collections import Counter

import numpy as np
import pytest

from mechmsc.statements import load_statements
from mechmsc.statements.grouping import near_duplicates, normalised, words

OWN = ("toxicity", "stereotyping", "harmfulness")


@pytest.fixture(scope="module", params=OWN)
def frame(request):
    return load_statements(request.param)


def auroc(labels, scores) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def bag_of_words_auroc(frame) -> float:
    """Out-of-fold AUROC of a logistic regression on word counts, groups kept together."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    scores = cross_val_predict(
        model, frame["text"], frame["label"], groups=frame["group"], cv=GroupKFold(10), method="predict_proba"
    )
    return auroc(frame["label"], scores[:, 1])


def test_there_are_enough_pairs_in_enough_groups_of_like_size(frame):
    assert set(frame["source"]) == {"mechmsc"}
    assert frame["pair"].nunique() >= 120 and frame["group"].nunique() >= 20
    assert frame.groupby("group").size().max() <= 12  # no topic rules a fold


def test_each_pair_has_one_statement_of_each_label_in_one_group(frame):
    assert frame["pair"].notna().all()
    pairs = frame.groupby("pair").agg({"label": sorted, "group": "nunique"})
    assert pairs["label"].map(lambda labels: labels == [0, 1]).all() and (pairs["group"] == 1).all()


def test_no_statement_occurs_twice_and_none_is_nearly_that_of_another_pair(frame):
    assert frame["text"].map(normalised).is_unique
    pairs, families = frame["pair"].tolist(), near_duplicates(frame["text"].tolist(), threshold=0.6)
    near = [frame["text"][i] for i, first in enumerate(families) if pairs[i] != pairs[first]]
    assert near == []


@pytest.mark.parametrize("unit", ["characters", "words"])
def test_length_says_nothing_about_the_label(frame, unit):
    length = frame["text"].map(len if unit == "characters" else lambda text: len(text.split()))
    positive, negative = length[frame["label"] == 1].mean(), length[frame["label"] == 0].mean()
    assert abs(positive - negative) / negative < 0.05
    assert 0.45 < auroc(frame["label"], length) < 0.55


def test_no_word_and_no_bag_of_words_gives_the_class_away(frame):
    counts = {label: Counter(w for text in part for w in set(words(text))) for label, part in _texts(frame).items()}
    pairs = frame["pair"].nunique()
    assert max(abs(counts[1][word] - counts[0][word]) for word in counts[0] | counts[1]) < 0.25 * pairs
    assert bag_of_words_auroc(frame) < 0.85


def test_the_bag_of_words_check_can_fail(frame):
    marked = frame.assign(
        text=[f"{text} fool" if label else text for text, label in zip(frame["text"], frame["label"], strict=True)]
    )
    assert bag_of_words_auroc(marked) > 0.95


def test_questions_and_openings_are_spread_over_both_classes(frame):
    texts = _texts(frame)
    questions, openings = ([sum(map(count, texts[label])) for label in (0, 1)] for count in (_asks, _speaks_of_itself))
    assert min(questions) >= 10 and abs(questions[0] - questions[1]) <= 4
    assert abs(openings[0] - openings[1]) <= 4
    first = Counter(text.split()[0] for text in frame["text"])
    assert len(first) >= 40 and max(first.values()) < 0.25 * len(frame)


def test_texts_are_plain_sentences(frame):
    for text in frame["text"]:
        assert text == text.strip() and "  " not in text and 3 <= len(text.split()) <= 60
        assert re.fullmatch(r"[A-Za-zé0-9 .,;:?!'-]+", text), text


def test_the_sets_are_mild_by_the_embedded_toxicity_score():
    from mechmsc.scorers.toxicity import svm_toxicity
    from mechmsc.tasks import load_items

    (item,) = load_items("detoxification", limit=1)  # the score looks at the text alone
    for concept in OWN:
        texts = _texts(load_statements(concept))
        rude, civil = (np.array(svm_toxicity([item] * len(texts[label]), texts[label])) for label in (1, 0))
        assert rude.mean() < 0.5 and civil.mean() < 0.2
        if concept != "toxicity":
            assert max(rude.max(), civil.max()) < 0.9


def _asks(text: str) -> bool:
    return text.endswith("?")


def _speaks_of_itself(text: str) -> bool:
    return text.startswith("I ")


def _texts(frame) -> dict[int, list[str]]:
    return {label: part["text"].tolist() for label, part in frame.groupby("label")}
