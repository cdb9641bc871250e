"""Conversations about pictures with tiny LLaVA- and Qwen2.5-VL-style models, against Hugging Face's own forward."""

import functools
import json
import shutil

import pytest
import torch
from tiny_vision import KINDS, save_tiny_vision

from mechmsc.errors import InputError
from mechmsc.tasks import Item, load_items

pytestmark = pytest.mark.engine
ARMS = ["moral", "neutral"]
QUICK = {"arms": ARMS, "rounds": 3, "samples": 1, "max_new_tokens": 5, "permutations": 2, "progress": False}


class Seeing:
    """A tiny model, a run of it, and how often its vision tower ran meanwhile."""

    def __init__(self, kind, folder, cache):
        from mechmsc.model import hf_model, load_model
        from mechmsc.rounds import self_correct

        self.kind, self.folder, self.cache = kind, save_tiny_vision(kind, folder / kind), cache
        self.model = load_model(self.folder, cache=cache)
        self.hf, self.vision = hf_model(self.model), self.model.mechmsc.vision
        self.items, self.calls = load_items("visual_qa", limit=2), 0
        tower = self.hf.model.vision_tower if kind == "llava" else self.hf.model.visual
        tower.register_forward_hook(self._count)
        self.out = folder / "run"
        self.run = self_correct(self.model, self.items, out=self.out, **QUICK)
        self.calls_of_run = self.calls

    def _count(self, *_):
        self.calls += 1

    def own(self, transcript, path=None):
        """Hugging Face's forward over the whole conversation with the picture: logits and hidden states."""
        ids = torch.tensor([transcript.ids])
        made = self.vision._prepared(path or transcript.image)
        shown, self.vision.rows = self.vision.rows, None
        hooks = self.hf.model.language_model.embed_tokens._forward_hooks
        before = dict(hooks)
        hooks.clear()  # without ours
        if self.kind != "llava":
            inside = torch.zeros_like(ids)
            span = transcript.span("image", 1)
            inside[0, span.start : span.end] = 1
            made["mm_token_type_ids"] = inside
        try:
            with torch.no_grad():
                return self.hf(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, **made)
        finally:
            hooks.update(before)
            self.vision.rows = shown
            if self.kind != "llava":
                self.hf.model.rope_deltas = None

    def conversation(self, number, arm="moral", round=3):
        return self.run.transcript(self.items[number], arm=arm, round=round)


@pytest.fixture(scope="module")
def made(tmp_path_factory, model_cache):
    """A function: kind -> its model and run, made once."""
    return functools.cache(lambda kind: Seeing(kind, tmp_path_factory.mktemp(kind), model_cache))


@pytest.fixture(scope="module", params=KINDS)
def seeing(request, made):
    return made(request.param)


@pytest.fixture(scope="module")
def llava(made):
    return made("llava")


def test_the_vision_tower_runs_once_for_each_picture_of_a_run_with_many_rounds(seeing):
    assert seeing.calls_of_run == len(seeing.items) == 2
    rows = seeing.run.transcripts
    assert len(rows) == 2 * 2 * 3 and rows["image"].nunique() == 2 and set(rows["pair"]) == {"1"}


def test_the_picture_is_a_span_of_round_one_and_later_rounds_go_on_after_it(seeing):
    rows = seeing.run.transcripts[seeing.run.transcripts["arm"] == "moral"].sort_values(["item_id", "round"])
    for _, same in rows.groupby("item_id"):
        ids = [list(row.prompt_ids) + list(row.response_ids) for row in same.itertuples()]
        assert all(later[: len(earlier)] == earlier for earlier, later in zip(ids, ids[1:], strict=False))
    for number in (0, 1):
        whole = seeing.conversation(number)
        (span,) = whole.spans_of("image")
        assert span.round == 1 and span.end - span.start == seeing.vision.seen(whole.image).count
        assert set(whole.ids[span.start : span.end]) == {seeing.vision.image_id}
        assert whole.image == seeing.items[number].image and span.end <= whole.span("question", 1).start


def test_cached_rounds_equal_a_full_pass_of_hugging_face_with_the_picture_and_not_with_another(seeing):
    rows = seeing.run.transcripts.set_index(["item_id", "arm", "round"])
    for number, arm, round in ((0, "moral", 1), (0, "moral", 3), (1, "neutral", 2)):
        whole = seeing.conversation(number, arm, round)
        logprobs = seeing.own(whole).logits[0, -1].log_softmax(0)
        entropy = float(-(logprobs.exp() * logprobs).sum())
        stored = rows.loc[(whole.item_id, arm, round), "first_token_entropy"]
        assert stored == pytest.approx(entropy, abs=1e-5)
        other = seeing.own(whole, seeing.items[1 - number].image).logits[0, -1].log_softmax(0)
        assert abs(float(-(other.exp() * other).sum()) - stored) > 1e-4


def test_kept_activations_are_those_of_hugging_face(seeing):
    kept = seeing.run.activations["resid_post.prompt_end"]
    for number, round in ((0, 1), (1, 3)):
        whole = seeing.conversation(number, "neutral", round)
        states = seeing.own(whole).hidden_states
        found = kept.sel(item=whole.item_id, arm="neutral", round=round).values
        assert torch.allclose(torch.tensor(found[0]), states[1][0, -1], atol=1e-4)
        assert torch.allclose(torch.tensor(found[1]), states[2][0, -1], atol=1e-4)


def test_both_decoders_draw_the_same_tokens(seeing, tmp_path):
    from mechmsc.rounds import self_correct

    quick = QUICK | {"rounds": 2, "sites": "none"}
    runs = [
        self_correct(seeing.model, seeing.items[:1], out=tmp_path / kind, decoder=kind, **quick)
        for kind in ("huggingface", "hooked")
    ]
    one, other = (run.transcripts for run in runs)
    assert [list(ids) for ids in one["prompt_ids"]] == [list(ids) for ids in other["prompt_ids"]]
    drawn = [[list(ids) for ids in run.samples["response_ids"]] for run in runs]
    assert drawn[0] == drawn[1]


def test_edits_act_on_conversations_about_pictures_and_equal_conversations_of_two_pictures_are_told_apart(seeing):
    from mechmsc.interventions import add, applied, measure
    from mechmsc.sites import Site

    talks = [seeing.conversation(number, round=1) for number in (0, 1)]
    clean = measure(seeing.model, talks, "first_token_entropy")
    for talk, value in zip(talks, clean, strict=True):
        logprobs = seeing.own(talk).logits[0, -1].log_softmax(0)
        assert float(value) == pytest.approx(float(-(logprobs.exp() * logprobs).sum()), abs=1e-5)
    away = torch.randn(seeing.model.cfg.d_model, generator=torch.Generator().manual_seed(1))
    at = Site("resid_post", layer=1, span="image", round=1)
    with applied(seeing.model, [add(away, strength=5.0, at=at)]):
        moved = measure(seeing.model, talks, "first_token_entropy")
    assert all(abs(float(a) - float(b)) > 1e-4 for a, b in zip(clean, moved, strict=True))
    again = measure(seeing.model, talks, "first_token_entropy")
    assert [float(value) for value in again] == pytest.approx([float(value) for value in clean], abs=1e-6)


def test_patching_the_picture_of_another_conversation_at_the_bottom_turns_one_into_the_other(seeing):
    from mechmsc.patching import patch_grid

    source, destination = (seeing.conversation(number, round=1) for number in (0, 1))
    assert source.ids == destination.ids  # two pictures of one size: only what stands in their place differs
    grid = patch_grid(
        seeing.model,
        [source],
        [destination],
        sites="resid_pre",
        layers=[0],
        span="image",
        round=1,
        together=True,
        outcome=lambda logits: logits[:, -1, 65],
    )
    expected = [float(seeing.own(one).logits[0, -1, 65]) for one in (source, destination)]
    assert float(grid["source"].squeeze()) == pytest.approx(expected[0], abs=1e-4)
    assert float(grid["destination"].squeeze()) == pytest.approx(expected[1], abs=1e-4)
    assert float(grid.squeeze()) == pytest.approx(expected[0], abs=1e-4) and abs(expected[0] - expected[1]) > 1e-3


def test_the_run_shows_the_path_and_size_of_the_picture(seeing):
    from rich.console import Console

    from mechmsc.show import conversation

    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(conversation(seeing.run, seeing.items[0].item_id))
    console.file.close()
    assert f"picture {seeing.items[0].image} (224 x 224 pixels)" in console.export_text()


def test_text_alone_works_and_a_bare_call_with_a_picture_is_refused(seeing, tmp_path):
    from mechmsc.rounds import self_correct

    items = [Item("detoxification/0", "detoxification", "Go on: my neighbour said")]
    run = self_correct(seeing.model, items, out=tmp_path / "text", scorer=lambda _, texts: [0.0] * len(texts), **QUICK)
    assert len(run.transcripts) == 6 and run.transcripts["image"].isna().all()
    with pytest.raises(InputError, match="tokens of a picture without their conversation"):
        seeing.model(torch.tensor([seeing.conversation(0).ids]))


def test_another_picture_under_the_same_name_is_another_run(seeing, tmp_path):
    from dataclasses import replace

    from mechmsc.rounds import _digest

    path = tmp_path / "1.png"
    shutil.copy(seeing.items[0].image, path)
    item = replace(seeing.items[0], image=str(path))
    before = _digest([item])
    assert before == _digest([seeing.items[0]])
    shutil.copy(seeing.items[1].image, path)
    assert _digest([item]) != before


def test_prompts_are_those_of_hugging_faces_processor(llava, shared_data):
    import transformers

    tokenizer = llava.model.tokenizer
    processor = transformers.LlavaProcessor(
        llava.vision.image_processor,
        tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )
    from mechmsc.chat import ChatFormat
    from mechmsc.tasks.images import open_image

    chat = ChatFormat.of(tokenizer)
    photographs = sorted((shared_data / "vqa" / "images_cc0").iterdir())
    for path in photographs[:2]:
        ours = chat.open("What is it?", "Please look.", image=str(path))
        content = [{"type": "image"}, {"type": "text", "text": "What is it?\n\nPlease look."}]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        theirs = processor(text=[text], images=[open_image(path)])["input_ids"][0]
        assert list(ours.ids) == list(theirs)


def test_a_text_model_is_refused_before_the_run_folder_is_made(tiny_llama, tmp_path):
    from mechmsc.rounds import self_correct

    with pytest.raises(InputError, match="expected a vision-language model for the picture .*1.png, but this model"):
        self_correct(tiny_llama, load_items("visual_qa", limit=1), out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_processor_and_an_unknown_way_of_seeing_are_refused_in_one_line(llava, tmp_path):
    from mechmsc.model import load_model

    folder = tmp_path / "model"
    shutil.copytree(llava.folder, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="expected an image processor beside the vision-language model in"):
        load_model(folder, cache=llava.cache)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llava_next"}))
    with pytest.raises(InputError, match="unsupported vision-language model 'llava_next'; supported: llava"):
        load_model(folder, cache=llava.cache)


def test_loading_starts_no_process(llava, monkeypatch):
    import os
    import subprocess

    from mechmsc.model import load_model

    def refuse(*_, **__):
        raise AssertionError("a process was started")

    for owner, name in ((subprocess, "Popen"), (os, "system"), (os, "posix_spawn"), (os, "fork")):
        monkeypatch.setattr(owner, name, refuse)
    load_model(llava.folder, cache=llava.cache)
    with pytest.raises(AssertionError, match="a process was started"):
        subprocess.run(["true"])
