"""`fit_direction`: from statements to a record that says how it came about."""

import hashlib
import json

import pandas as pd
import pytest
import torch
from planted_statements import cosine, pair_names, planted, planted_sides

from mechmsc.directions import METHODS, direction_from, fit_direction, read_letters, read_sides, read_statements
from mechmsc.directions.fitting import text_digest
from mechmsc.errors import InputError
from mechmsc.model import ModelIdentity, identity

MODEL = ModelIdentity("tiny", None, "0" * 64)


@pytest.fixture(scope="module")
def statements() -> pd.DataFrame:
    nouns = ["cat", "dog", "bus", "sea", "map", "hat", "cup", "sun", "box", "key", "pen", "jar"]
    rows = [
        {"concept": "toxicity", "source": "test", "text": f"{word} {noun}", "label": label, "group": noun, "pair": noun}
        for noun in nouns
        for label, word in enumerate(("Nice", "Bad"))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_statements_of_a_model_and_records_how(statements, tiny_llama, method):
    plain = read_statements(tiny_llama, statements, progress=False)
    direction = fit_direction(tiny_llama, statements, method=method, activations=plain, seed=2, progress=False)
    assert direction.vectors.shape == direction.midpoints.shape == (3, 32)
    assert torch.isfinite(direction.vectors).all() and (direction.vectors.norm(dim=1) > 0).all()
    assert (direction.concept, direction.method, direction.layers) == ("toxicity", method, (0, 1, 2))
    assert (direction.component, direction.position, direction.context) == ("resid_post", "last", "chat")
    assert direction.model == identity(tiny_llama)
    lines = [json.dumps([text, label]) for text, label in zip(statements.text, statements.label, strict=True)]
    assert direction.data == {
        "sources": ["test"],
        "statements": {"label_0": 12, "label_1": 12},
        "groups": sorted(set(statements.group)),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "texts": sorted(text_digest(text) for text in statements.text),
    }
    assert direction.settings["seed"] == 2 and direction.settings["versions"]["torch"] == torch.__version__
    assert ("penalty" in direction.settings) == (method == "logistic")
    means = direction.score(plain)[torch.tensor((statements.label == 1).to_numpy())].mean(0)
    torch.testing.assert_close(means, torch.full((3,), 0.5), rtol=0, atol=1e-3)


def test_caa_and_ccs_are_fitted_on_letters_and_sides_and_scored_on_plain_statements(statements, tiny_llama):
    labels = torch.tensor(statements.label.to_numpy())
    given = {"groups": list(statements.group), "pairs": list(statements.pair), "seed": 0}
    for method, read in (("caa", read_letters), ("ccs", read_sides)):
        fitted = fit_direction(tiny_llama, statements, method=method, progress=False)
        own = METHODS[method](read(tiny_llama, statements, progress=False), labels, **given)
        torch.testing.assert_close(cosine(fitted.vectors, own).abs(), torch.ones(3))
    plain = read_statements(tiny_llama, statements, progress=False)
    on_plain = METHODS["caa"](plain, labels, **given)
    assert cosine(fit_direction(tiny_llama, statements, method="caa", progress=False).vectors, on_plain).max() < 0.99


def test_the_sign_of_ccs_and_pair_svd_is_that_of_the_plain_class_gap():
    sides, labels, truth = planted_sides(n=200)
    plain = sides[:, 1]  # along these the answer points the other way
    direction = direction_from(plain, labels, concept="c", model=MODEL, method="ccs", fitted_on=sides)
    assert (direction.gaps > 0).all()
    assert cosine(direction.vectors, truth).max() < -0.9


@pytest.mark.parametrize(
    "option", [{"position": "mean"}, {"context": "raw"}, {"component": "mlp_out"}, {"max_tokens": 2}]
)
def test_each_option_changes_the_direction_and_is_recorded(statements, tiny_llama, option):
    plain = fit_direction(tiny_llama, statements, progress=False)
    changed = fit_direction(tiny_llama, statements, progress=False, **option)
    assert not torch.allclose(plain.vectors, changed.vectors)
    name, value = next(iter(option.items()))
    assert (changed.settings[name] if name == "max_tokens" else getattr(changed, name)) == value


def test_statements_that_cannot_be_fitted_are_refused(statements, tiny_llama):
    def fit(table, **options):
        return fit_direction(tiny_llama, table, progress=False, **options)

    with pytest.raises(InputError, match=r"both classes, labels 0 and 1, got labels \[1\] in 12 statements"):
        fit(statements[statements.label == 1])
    with pytest.raises(InputError, match="expected statements of one concept, got stereotyping, toxicity"):
        fit(statements.assign(concept=["toxicity", "stereotyping"] * 12))
    with pytest.raises(InputError, match="expected statements with a column text, got 0 rows"):
        fit(statements[:0])
    with pytest.raises(InputError, match="expected statements with column group"):
        fit(statements.drop(columns="group"))
    with pytest.raises(InputError, match="unknown method 'mass_men': did you mean mass_mean"):
        fit(statements, method="mass_men")
    with pytest.raises(InputError, match=r"expected \[statement, layer, d_model\] \(24, 3, 32\), got \(24, 3, 5\)"):
        fit(statements, activations=torch.zeros(24, 3, 5))
    with pytest.raises(InputError, match="logistic chooses its penalty by 5-fold cross-validation: 2 groups"):
        fit(statements.assign(group=["a", "b"] * 12), method="logistic")
    with pytest.raises(InputError, match="statement 0 has no pair"):
        fit(statements.assign(pair=None), method="caa")


def test_a_record_without_groups_takes_each_statement_for_its_own():
    activations, labels, truth = planted(n=60, layers=2)
    direction = direction_from(activations, labels, concept="c", model=MODEL, method="logistic", layers=[4, 7])
    assert direction.layers == (4, 7) and direction.row(7) == 1
    assert len(direction.data["groups"]) == 60
    with pytest.raises(InputError, match="has layers 4 to 7, not layer 5"):
        direction.row(5)
    assert cosine(direction.vectors, truth).min() > 0.8
    named = direction_from(activations, labels, concept="c", model=MODEL, groups=pair_names(60))
    assert len(named.data["groups"]) == 30
