"""Conversations about pictures with tiny models of every family that sees, against Hugging Face's own forward."""

import functools
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from tiny_vision import KINDS, Own, save_tiny_vision

from mechmsc.errors import InputError
from mechmsc.tasks import Item, load_items

pytestmark = pytest.mark.engine
ARMS = ["moral", "neutral"]
QUICK = {"arms": ARMS, "rounds": 3, "samples": 1, "max_new_tokens": 5, "permutations": 2, "progress": False}


class Seeing:
    """A tiny model, a run of it, and how often its vision tower ran meanwhile."""

    def __init__(self, kind, folder, cache):
        from mechmsc.model import load_model
        from mechmsc.rounds import self_correct

        self.kind, self.folder, self.cache = kind, save_tiny_vision(kind, folder / kind), cache
        self.model = load_model(self.folder, cache=cache)
        self.vision, self.own = self.model.mechmsc.vision, Own(kind, self.model)
        self.items = load_items("visual_qa", limit=2)
        self.out = folder / "run"
        self.run = self_correct(self.model, self.items, out=self.out, **QUICK)
        self.calls_of_run = self.own.calls

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
        assert span.round == 1 and (seeing.kind in ("idefics3", "gemma3")) == (
            span.end - span.start > seeing.vision.seen(whole.image).count
        )
        assert list(whole.ids).count(seeing.vision.image_id) == seeing.vision.seen(whole.image).count
        assert seeing.vision.image_id not in (*whole.ids[: span.start], *whole.ids[span.end :])
        assert whole.image == seeing.items[number].image and span.end <= whole.span("question", 1).start


def test_cached_rounds_equal_a_full_pass_of_hugging_face_with_the_picture_and_not_with_another(seeing):
    rows = seeing.run.transcripts.set_index(["item_id", "arm", "round"])
    for number, arm, round in ((0, "moral", 1), (0, "moral", 3), (1, "neutral", 2)):
        whole = seeing.conversation(number, arm, round)
        logprobs = seeing.own(whole)[0][-1].log_softmax(0)
        entropy = float(-(logprobs.exp() * logprobs).sum())
        stored = rows.loc[(whole.item_id, arm, round), "first_token_entropy"]
        assert stored == pytest.approx(entropy, abs=1e-5)
        other = seeing.own(whole, seeing.items[1 - number].image)[0][-1].log_softmax(0)
        assert abs(float(-(other.exp() * other).sum()) - stored) > 1e-4


def test_kept_activations_are_those_of_hugging_face(seeing):
    kept = seeing.run.activations["resid_post.prompt_end"]
    for number, round in ((0, 1), (1, 3)):
        whole = seeing.conversation(number, "neutral", round)
        streams = seeing.own(whole)[1]
        found = torch.tensor(kept.sel(item=whole.item_id, arm="neutral", round=round).values)
        assert torch.allclose(found, torch.stack([stream[-1] for stream in streams[1:]]), atol=1e-4)


def test_every_block_of_a_padded_batch_sees_what_hugging_faces_does_at_every_token(seeing):
    from mechmsc.model.looking import looking, pictured

    talks, layers = [seeing.conversation(0, round=1), seeing.conversation(1)], range(seeing.model.cfg.n_layers)
    ids = [list(pictured(talk)) for talk in talks]
    tokens = torch.tensor([[*row, *[0] * (max(map(len, ids)) - len(row))] for row in ids])
    names = [f"blocks.{layer}.hook_resid_{end}" for layer in layers for end in ("pre", "post")]
    with torch.no_grad(), looking(seeing.model, [pictured(talk) for talk in talks]):
        logits, cache = seeing.model.run_with_cache(tokens, names_filter=names, padding_side="right")
    for row, talk in enumerate(talks):
        expected, streams = seeing.own(talk)
        assert torch.allclose(logits[row, : len(talk)], expected, atol=1e-4)
        for layer in layers:
            for name, stream in (("resid_pre", streams[layer]), ("resid_post", streams[layer + 1])):
                assert torch.allclose(cache[name, layer][row, : len(talk)], stream, atol=1e-4), (name, layer)


def test_another_order_of_the_options_shows_the_same_picture(seeing):
    from mechmsc.permutations import permuted

    talk = seeing.conversation(0, round=2)
    same, turned = (permuted(seeing.model.tokenizer, talk, order) for order in ((0, 1), (1, 0)))
    span = talk.span("image", 1)
    assert same == talk and turned.ids != talk.ids and turned.image == talk.image
    assert turned.span("image", 1) == span and turned.ids[: span.end] == talk.ids[: span.end]


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


@pytest.mark.parametrize("decoder", ["huggingface", "hooked"])
def test_a_picture_behind_encoded_text_is_seen_as_in_one_pass(seeing, decoder):
    from mechmsc.decoders import open_decoder
    from mechmsc.positions import shown

    talks = [seeing.conversation(0, round=1), seeing.conversation(1)]
    told = shown(seeing.model, talks)
    start = talks[0].span("image", 1).start
    opened = open_decoder(seeing.model, 2, kind=decoder)
    opened.extend([list(talk.ids[:start]) for talk in talks], told)
    logits = opened.extend([list(talk.ids[start:]) for talk in talks], told)
    for row, talk in enumerate(talks):
        assert torch.allclose(logits[row], seeing.own(talk)[0][-1], atol=1e-4)


def test_edits_act_on_conversations_about_pictures_and_equal_conversations_of_two_pictures_are_told_apart(seeing):
    from mechmsc.interventions import add, applied, measure
    from mechmsc.sites import Site

    talks = [seeing.conversation(number, round=1) for number in (0, 1)]
    clean = measure(seeing.model, talks, "first_token_entropy")
    for talk, value in zip(talks, clean, strict=True):
        logprobs = seeing.own(talk)[0][-1].log_softmax(0)
        assert float(value) == pytest.approx(float(-(logprobs.exp() * logprobs).sum()), abs=1e-5)
    away = torch.randn(seeing.model.cfg.d_model, generator=torch.Generator().manual_seed(1))
    at = Site("resid_post", layer=0, span="image", round=1)  # behind it, layers with a short window see no picture
    with applied(seeing.model, [add(away, strength=50.0, at=at)]):
        moved = measure(seeing.model, talks, "kl")
    assert min(map(float, moved)) > 1e-4
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
    expected = [float(seeing.own(one)[0][-1, 65]) for one in (source, destination)]
    assert float(grid["source"].squeeze()) == pytest.approx(expected[0], abs=1e-4)
    assert float(grid["destination"].squeeze()) == pytest.approx(expected[1], abs=1e-4)
    assert abs(expected[0] - expected[1]) > 1e-3
    same = float(grid.squeeze()) == pytest.approx(expected[0], abs=1e-4)
    assert same != (seeing.kind == "qwen3_vl")  # whose first blocks are shown their own picture again


def test_the_run_shows_the_path_and_size_of_the_picture(llava):
    from rich.console import Console

    from mechmsc.show import conversation

    seeing = llava

    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(conversation(seeing.run, seeing.items[0].item_id))
    console.file.close()
    assert f"picture {seeing.items[0].image} (224 x 224 pixels)" in console.export_text()


@pytest.mark.parametrize("kind", ["qwen3_vl", "gemma3"])
def test_text_alone_works_and_a_bare_call_with_a_picture_is_refused(kind, made, tmp_path):
    from mechmsc.rounds import self_correct

    seeing = made(kind)

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


PROCESSORS = {
    "llava": ("LlavaProcessor", {"patch_size": 7, "vision_feature_select_strategy": "default"}),
    "llava_next": ("LlavaNextProcessor", {"patch_size": 7, "vision_feature_select_strategy": "default"}),
    "llava_onevision": (
        "LlavaOnevisionProcessor",
        {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_2"},
    ),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", {}),
    "qwen3_vl": ("Qwen3VLProcessor", {}),
    "idefics3": ("Idefics3Processor", {"image_seq_len": 4}),
    "smolvlm": ("SmolVLMProcessor", {"image_seq_len": 4}),
    "gemma3": ("Gemma3Processor", {"image_seq_length": 9}),
}
"""Hugging Face's processors, which are told what the model knows by itself."""
OF_VIDEOS = ("llava_onevision", "qwen2_5_vl", "qwen3_vl", "smolvlm")


def processor_of(kind, image_processor, tokenizer, monkeypatch):
    """Hugging Face's processor around the same image processor; without the one of videos, which wants torchvision."""
    import importlib

    import transformers

    name, told = PROCESSORS[kind]
    module = importlib.import_module(f"transformers.models.{kind}.processing_{kind}")
    monkeypatch.setattr(transformers.ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
    monkeypatch.setattr(module, "num2words", str, raising=False)  # a package that counts frames
    told = told | ({"num_additional_image_tokens": 1} if kind in ("llava", "llava_next") else {})
    told |= {"video_processor": None} if kind in OF_VIDEOS else {}
    if kind == "gemma3":
        for name_of, text in (("boi", "<start_of_image>"), ("eoi", "<end_of_image>"), ("image", "<image_soft_token>")):
            setattr(tokenizer, f"{name_of}_token", text)
            setattr(tokenizer, f"{name_of}_token_id", tokenizer.convert_tokens_to_ids(text))
    return getattr(module, name)(image_processor=image_processor, tokenizer=tokenizer, **told)


@pytest.mark.parametrize("kind", PROCESSORS)
def test_prompts_are_those_of_hugging_faces_processor(kind, tmp_path, model_cache, shared_data, monkeypatch):
    import transformers

    from mechmsc.chat import ChatFormat
    from mechmsc.model import load_model
    from mechmsc.tasks.images import open_image

    folder = save_tiny_vision(kind, tmp_path / kind)
    model = load_model(folder, cache=model_cache)
    tokenizer, chat = transformers.AutoTokenizer.from_pretrained(folder), ChatFormat.of(model.tokenizer)
    processor = processor_of(kind, model.mechmsc.vision.image_processor, tokenizer, monkeypatch)
    content = [{"type": "image"}, {"type": "text", "text": "What is it?\n\nPlease look."}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    for path in sorted((shared_data / "vqa" / "images_cc0").iterdir()):
        ours = chat.open("What is it?", "Please look.", image=str(path))
        theirs = processor(text=[text], images=[open_image(path)])["input_ids"][0]
        assert list(ours.ids) == list(theirs)


def test_sub_pictures_have_their_row_and_column_inside_the_pictures_span(made):
    from tiny_vision import CELLS

    seeing = made("idefics3")
    whole = seeing.conversation(0, round=1)
    span = whole.span("image", 1)
    text = seeing.model.tokenizer.decode(whole.ids[span.start : span.end])
    run = "<image>" * 4
    top, bottom = ("".join(f"<fake_token_around_image>{cell}{run}" for cell in row) for row in (CELLS[:2], CELLS[2:]))
    around = "<fake_token_around_image>"
    assert text == f"{top}\n{bottom}\n\n{around}<global-img>{run}{around}"


def test_a_pass_over_a_part_of_a_picture_whose_tokens_attend_to_one_another_is_refused(made):
    seeing = made("gemma3")
    whole = seeing.conversation(0, round=1)
    span, vision = whole.span("image", 1), seeing.vision
    shown = SimpleNamespace(transcript=whole)
    rows = [SimpleNamespace(shown=shown, start=0, count=span.start + n, column=2) for n in (1, 4, 11)]
    assert vision.mutual([rows[0], rows[2]]) == [(0, 0), (span.start + 1, span.start + 10)]
    with pytest.raises(InputError, match="a pass over 3 of the 9 tokens of .*1.png: in this model they attend"):
        vision.mutual(rows)


@pytest.mark.parametrize("kind", ["smolvlm", "llava_next", "llava_onevision"])
def test_smolvlm_2_is_read_as_idefics_3_and_later_llavas_pack_their_tiles_by_themselves(kind, tmp_path, model_cache):
    from PIL import Image

    from mechmsc.chat import ChatFormat
    from mechmsc.interventions import measure
    from mechmsc.model import load_model

    model = load_model(save_tiny_vision(kind, tmp_path / kind), cache=model_cache)
    own, chat = Own(kind, model), ChatFormat.of(model.tokenizer)
    picture = Image.open(load_items("visual_qa", limit=1)[0].image).convert("RGB")
    talks = []
    for width, height in ((30, 30), (60, 22), (20, 50)):
        picture.resize((width, height)).save(tmp_path / f"{width}.png")
        talks.append(chat.open("What is it?", image=str(tmp_path / f"{width}.png")))
    assert own.calls == 0 and len({len(talk) for talk in talks}) > 1 - (kind == "smolvlm")
    for talk, found in zip(talks, measure(model, talks, "first_token_entropy"), strict=True):
        logprobs = own(talk)[0][-1].log_softmax(0)
        assert float(found) == pytest.approx(float(-(logprobs.exp() * logprobs).sum()), abs=1e-5)


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
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "video_llava"}))
    with pytest.raises(InputError, match="unsupported .* 'video_llava'; supported: llava.*not known here"):
        load_model(folder, cache=llava.cache)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(InputError, match="'qwen2_vl'; supported: .*; TransformerBridge does not know it"):
        load_model(folder, cache=llava.cache)


def test_a_picture_that_the_image_processor_refuses_is_named(made, tmp_path):
    from PIL import Image

    Image.new("RGB", (900, 3)).save(tmp_path / "line.png")
    with pytest.raises(InputError, match="line.png: the model's image processor refuses it: .*aspect ratio"):
        made("qwen2_5_vl").vision.seen(str(tmp_path / "line.png"))


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
