"""On the "meta" device nothing is computed, but mixed devices show."""

import pytest
import torch
from devices import refuse_mixed_devices
from engines import ENGINES
from tiny_models import CONFIGS, VOCABULARY

from mechmsc.model import hf_model


def test_the_dispatch_mode_refuses_mixed_devices_and_lets_scalars_and_transfers_pass():
    on_meta, on_cpu = torch.ones(3, device="meta"), torch.ones(3)
    with refuse_mixed_devices():
        assert (on_meta + torch.tensor(2.0)).device.type == "meta"
        assert (on_meta + on_cpu.to("meta")).device.type == "meta"
        with pytest.raises(RuntimeError, match="mixes devices: cpu, meta"):
            torch.where(on_meta > 0, on_meta, on_cpu)
        with pytest.raises(RuntimeError, match="mixes devices"):
            on_meta[torch.tensor([0, 1])]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_both_forward_passes_run_on_meta_without_mixing_devices(load_tiny, architecture, engine):
    model = load_tiny(architecture, engine=engine, device="meta")
    ids = torch.zeros(2, 20, dtype=torch.long, device="meta")
    # none on the bridge, where TransformerLens looks into it for padding, and "meta" has no values
    mask = torch.ones_like(ids) if engine == "hooked" else None
    seen = {}

    def keep(activation, hook):
        seen[hook.name] = activation[:, -1]

    with refuse_mixed_devices():
        logits = model.run_with_hooks(
            ids, attention_mask=mask, fwd_hooks=[(lambda name: name.endswith("resid_post"), keep)]
        )
        # a finished mask: to make one, transformers looks into the data, which "meta" has not
        hf_model(model)(ids, attention_mask=torch.zeros(2, 1, 20, 20, device="meta"), use_cache=False)
    assert logits.shape == (2, 20, VOCABULARY)
    assert {x.device.type for x in seen.values()} == {"meta"}
    assert len(seen) == model.cfg.n_layers


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_of_a_model_on_meta_is_on_meta(load_tiny, engine):
    model = load_tiny("gemma3", engine=engine, device="meta", dtype="bfloat16")
    assert {x.device.type for x in [*model.parameters(), *model.buffers()]} == {"meta"}
    assert {x.dtype for name, x in model.named_parameters() if "W_" in name or "weight" in name} == {torch.bfloat16}
