"""nnsight and pyvene patching the residual stream before a block, as a worker that is told which cells to patch.

    python patching_peers.py nnsight|pyvene FOLDER MODEL

FOLDER holds the packages (bench_patching installs them there, so that they touch no environment), MODEL is a folder in
Hugging Face's format. Each line on stdin is JSON: first {"source", "destination", "tokens"} (ids, and the two tokens
whose logits are subtracted), then [[layer, position], ...]. Each such line is answered by {"seconds", "values"}.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def nnsight_patcher(
    hf: Any, source: Any, destination: Any, metric: Callable[[Any], Any]
) -> Callable[[int, int], float]:
    """One traced forward pass a cell; the source's activations are taken once, before."""
    from nnsight import NNsight

    model = NNsight(hf)
    with model.trace(source):
        clean = list().save()  # noqa: C408 - traced
        for layer in model.model.layers:
            clean.append(layer.input)

    def patch(layer: int, position: int) -> float:
        with model.trace(destination):
            model.model.layers[layer].input[:, position] = clean[layer][:, position]
            value = metric(model.lm_head.output).save()
        return value.item()

    return patch


def pyvene_patcher(hf: Any, source: Any, destination: Any, metric: Callable[[Any], Any]) -> Callable[[int, int], float]:
    """One intervened forward pass a cell; the source's activations are given, a model a layer is made once, before."""
    import pyvene

    clean: list[Any] = [block[:, :].clone() for block in hf(source, output_hidden_states=True).hidden_states]
    made: dict[int, Any] = {}

    def patch(layer: int, position: int) -> float:
        if layer not in made:
            place = [{"layer": layer, "component": "block_input", "unit": "pos"}]
            config = pyvene.IntervenableConfig(place, intervention_types=pyvene.VanillaIntervention)
            made[layer] = pyvene.IntervenableModel(config, model=hf)
        key = next(iter(made[layer].interventions))
        read = {key: clean[layer][:, position : position + 1].clone()}
        _, out = made[layer]({"input_ids": destination}, None, {"base": position}, source_representations=read)
        return metric(out.logits).item()

    return patch


PATCHERS = {"nnsight": nnsight_patcher, "pyvene": pyvene_patcher}


def main(name: str, folder: str, path: str) -> None:
    """Answer until stdin ends."""
    sys.path.append(folder)
    import torch
    import transformers

    answers = sys.stdout
    sys.stdout = sys.stderr  # what the packages print is no answer
    hf = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval().requires_grad_(False)
    task = json.loads(sys.stdin.readline())
    first, second = task["tokens"]
    runs = (torch.tensor([task[side]]) for side in ("source", "destination"))
    with torch.no_grad():
        patch = PATCHERS[name](hf, *runs, lambda logits: logits[0, -1, first] - logits[0, -1, second])
        patch(0, 0)
        for line in sys.stdin:
            cells = json.loads(line)
            for layer in {layer for layer, _ in cells}:
                patch(layer, 0)  # warm: making a model for a layer is not part of a cell
            start = time.perf_counter()
            values = [patch(layer, position) for layer, position in cells]
            seconds = time.perf_counter() - start
            answers.write(json.dumps({"seconds": seconds, "values": values}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
