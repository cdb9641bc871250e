import json

import numpy as np
import pytest
import torch
from planted_statements import planted
from safetensors.torch import load_file, save_file

from mechmsc.directions import direction_from, load_direction
from mechmsc.directions.exchange import export_vectors, import_vectors
from mechmsc.errors import InputError
from mechmsc.model import ModelIdentity

MODEL = ModelIdentity("tiny", "abc", "0" * 64)


@pytest.fixture
def direction():
    activations, labels, _ = planted(n=60, layers=4, d_model=6)
    activations[:, 2] = 1.0  # a layer without a gap
    return direction_from(activations, labels, concept="toxicity", model=MODEL, method="logistic", seed=3)


def test_a_direction_is_read_back_bit_for_bit_with_its_card(direction, tmp_path):
    direction.save(tmp_path / "toxicity.safetensors")
    again = load_direction(tmp_path / "toxicity.safetensors")
    for name in ("vectors", "midpoints", "gaps"):
        assert getattr(again, name).numpy().tobytes() == getattr(direction, name).numpy().tobytes()
    for name in ("concept", "layers", "method", "component", "position", "context", "model", "data", "settings"):
        assert getattr(again, name) == getattr(direction, name)
    assert torch.isnan(again.gaps[2])
    assert len(again.settings["penalty"]) == 4 and again.settings["seed"] == 3


def test_the_card_beside_it_says_the_same_and_is_not_needed(direction, tmp_path):
    direction.save(tmp_path / "a.safetensors")
    card = json.loads((tmp_path / "a.json").read_text())
    assert (card["concept"], card["model"]["sha256"], card["unit"]) == ("toxicity", "0" * 64, "one class gap")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.safetensors"]
    (tmp_path / "a.json").unlink()
    assert load_direction(tmp_path / "a.safetensors").concept == "toxicity"


def test_a_direction_of_another_model_or_component_is_refused(direction, tmp_path, tiny_llama):
    path = tmp_path / "a.safetensors"
    direction.save(path)
    with pytest.raises(
        InputError, match=r"a.safetensors: direction 'toxicity' .* of tiny \(d_model=6\); .* d_model=32"
    ):
        load_direction(path, model=tiny_llama)
    with pytest.raises(InputError, match="was fitted at resid_post, not at attn_out; fit it at attn_out"):
        load_direction(path, component="attn_out")
    assert load_direction(path, component="resid_post").component == "resid_post"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.safetensors is empty: expected"),
        (b"not safetensors at all", "is not a readable .safetensors file"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, content, message):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_direction(tmp_path / "a.safetensors")


def test_missing_foreign_and_newer_files_are_refused(direction, tmp_path):
    with pytest.raises(InputError, match="no direction at .*b.safetensors"):
        load_direction(tmp_path / "b.safetensors")
    save_file({"12": torch.ones(3)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match=r"holds no direction of mechmsc \(tensors 12\); read .* import_vectors"):
        load_direction(tmp_path / "b.safetensors")
    direction.save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    card = json.loads((tmp_path / "a.json").read_text())
    for change, message in (
        ({"format": 2}, "has format 2, this mechmsc reads 1"),
        ({"layers": [0, 1]}, r"vectors should have shape \(2, 6\) by its card, has \(4, 6\)"),
        ({"model": {}}, "its card lacks something"),
    ):
        save_file(tensors, tmp_path / "c.safetensors", metadata={"mechmsc": json.dumps(card | change)})
        with pytest.raises(InputError, match=message):
            load_direction(tmp_path / "c.safetensors")


def test_a_path_that_cannot_be_written_is_refused(direction, tmp_path):
    with pytest.raises(InputError, match="ends in .safetensors"):
        direction.save(tmp_path / "a.pt")
    with pytest.raises(InputError, match="does not exist; make it first"):
        direction.save(tmp_path / "nowhere" / "a.safetensors")


@pytest.mark.parametrize("kind", ["safetensors", "npz", "gguf"])
def test_exported_vectors_are_one_class_gap_long_and_come_back(direction, tmp_path, kind):
    path = tmp_path / f"vectors.{kind}"
    export_vectors(direction, path)
    again = import_vectors(path, concept="toxicity", model=MODEL)
    rows = [0, 1, 3]  # layer 2 has no gap
    assert again.layers == (0, 1, 3)
    torch.testing.assert_close(again.gaps, direction.gaps[rows])
    torch.testing.assert_close(again.units, direction.units[rows])
    torch.testing.assert_close(again.vectors.norm(dim=1), direction.gaps[rows])
    assert torch.isnan(again.score(torch.zeros(3, 6))).all()  # no labelled activations, no midpoint
    assert torch.isfinite(again.cosine_as_released(torch.ones(3, 6))).all()


def test_a_plain_mapping_with_labelled_activations_scores_in_class_gaps():
    activations, labels, truth = planted(n=200, layers=4, d_model=6)
    vectors = {3: 5 * truth[3].numpy(), 1: truth[1]}
    direction = import_vectors(vectors, concept="c", model=MODEL, activations=activations, labels=labels)
    assert direction.layers == (1, 3)
    means = direction.score(activations[:, [1, 3]])[labels == 1].mean(0)
    torch.testing.assert_close(means, torch.full((2,), 0.5), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({}, "expected vectors of one length"),
        ({0: torch.ones(3), 1: torch.ones(4)}, r"got lengths \[3, 4\]"),
        ({2: torch.tensor([1.0, torch.nan])}, "the vector of layer 2 is not finite"),
    ],
)
def test_vectors_that_are_none_are_refused(vectors, message):
    with pytest.raises(InputError, match=message):
        import_vectors(vectors, concept="c", model=MODEL)


def test_files_of_vectors_that_cannot_be_read_are_refused(direction, tmp_path):
    with pytest.raises(InputError, match="pickled files are not read"):
        import_vectors(tmp_path / "vectors.pt", concept="c", model=MODEL)
    with pytest.raises(InputError, match="no file at"):
        import_vectors(tmp_path / "vectors.npz", concept="c", model=MODEL)
    np.savez(tmp_path / "odd.npz", first=np.ones(3))
    with pytest.raises(InputError, match="names end in a layer, e.g. direction.12, got 'first'"):
        import_vectors(tmp_path / "odd.npz", concept="c", model=MODEL)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match="broken.gguf cannot be read"):
        import_vectors(tmp_path / "broken.gguf", concept="c", model=MODEL)
    with pytest.raises(InputError, match="ends in .safetensors, .npz, .gguf, got .*vectors.pt"):
        export_vectors(direction, tmp_path / "vectors.pt")
