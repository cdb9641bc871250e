"""Statements are shown as they should be and read where they should be; batches, padding and options change nothing."""

import pandas as pd
import pytest
import torch
from devices import refuse_mixed_devices

from mechmsc.directions import read_letters, read_sides, read_statements
from mechmsc.directions.prompts import CHOICE, QUESTION, Prompts, statement_tokens
from mechmsc.errors import InputError

TEXTS = ["You are kind.", "Go away, you fool, and never come back!", "Ünïcode ☺", "x"]


@pytest.fixture(scope="module")
def statements():
    pairs = ["a", "b", "b", "a"]
    return pd.DataFrame({"text": TEXTS, "concept": "toxicity", "label": [0, 1, 0, 1], "pair": pairs, "group": pairs})


def states(model, text, layer_hook="hook_resid_post"):
    """[layer, token, d_model] of a text, by run_with_cache, and its ids."""
    ids = torch.tensor([model.tokenizer(text, add_special_tokens=False).input_ids])
    _, cache = model.run_with_cache(ids)
    return torch.stack([cache[f"blocks.{layer}.{layer_hook}"][0] for layer in range(model.cfg.n_layers)]), ids[0]


def chat(model, text, answer=""):
    messages = [{"role": "user", "content": text}]
    return model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + answer


@pytest.mark.parametrize("context", ["chat", "raw"])
@pytest.mark.parametrize("position", ["last", "mean", "prompt_end"])
def test_each_position_is_where_its_name_says_for_every_layer(statements, tiny_llama, context, position):
    if context == "raw":
        statements = statements[:3]  # a text of one token has nothing besides the first token of the sequence
    read = read_statements(tiny_llama, statements, position=position, context=context, progress=False)
    for row, text in enumerate(statements.text):
        shown = chat(tiny_llama, text) if context == "chat" else text
        kept, ids = states(tiny_llama, shown)
        start = shown.encode().index(text.encode()) - 13 * shown.count("<|im_start|>", 0, shown.index(text))
        assert len(ids) > 0
        first = (
            [i for i in range(len(ids)) if tiny_llama.tokenizer.decode(ids[i:]).startswith(text)][-1]
            if (context == "chat")
            else 0
        )
        tokens = range(max(first, 1), first + len(text.encode()))
        expected = {"last": kept[:, tokens[-1]], "mean": kept[:, tokens].mean(1), "prompt_end": kept[:, -1]}[position]
        torch.testing.assert_close(read[row], expected, rtol=1e-4, atol=1e-4)
        assert start is not None


def test_batches_of_any_size_read_the_same(statements, tiny_llama):
    one = read_statements(tiny_llama, statements, position="mean", batch_tokens=1, progress=False)
    torch.testing.assert_close(read_statements(tiny_llama, statements, position="mean", progress=False), one)


def test_the_first_token_is_left_out_of_means_unless_asked_for(statements, tiny_llama):
    plain = read_statements(tiny_llama, statements[:2], position="mean", context="raw", progress=False)
    with_first = read_statements(
        tiny_llama, statements[:2], position="mean", context="raw", first_token=True, progress=False
    )
    kept, ids = states(tiny_llama, TEXTS[0])
    torch.testing.assert_close(with_first[0], kept.mean(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain[0], kept[:, 1:].mean(1), rtol=1e-4, atol=1e-4)
    # in the chat template it is the template's own first token
    transcript = Prompts.of(tiny_llama, "chat").plain(TEXTS[0])
    tokens = statement_tokens(transcript, "mean", first_token=False)
    assert 0 not in tokens
    assert statement_tokens(transcript, "mean", first_token=True) == (0, *tokens)


@pytest.mark.parametrize("component", ["resid_pre", "attn_out", "mlp_out"])
def test_other_components_are_read_at_their_own_hook(statements, tiny_llama, component):
    read = read_statements(tiny_llama, statements[:1], component=component, progress=False)
    kept, ids = states(tiny_llama, chat(tiny_llama, TEXTS[0]), f"hook_{component}")
    end = [i for i in range(len(ids)) if tiny_llama.tokenizer.decode(ids[i:]).startswith(TEXTS[0])][-1]
    torch.testing.assert_close(read[0], kept[:, end + len(TEXTS[0]) - 1], rtol=1e-4, atol=1e-4)


def test_sides_are_one_statement_with_two_answers_read_at_their_end(statements, tiny_llama):
    sides = read_sides(tiny_llama, statements, progress=False)
    assert sides.shape == (4, 2, 3, 32)
    question = f"{TEXTS[1]}\n\n{QUESTION.format(concept='toxicity')}"
    for side, answer in enumerate(("Yes", "No")):
        kept, _ = states(tiny_llama, chat(tiny_llama, question, answer))
        torch.testing.assert_close(sides[1, side], kept[:, -1], rtol=1e-4, atol=1e-4)


def test_letters_are_read_where_the_answer_names_the_statement_in_both_orders(statements, tiny_llama):
    letters = read_letters(tiny_llama, statements, progress=False)
    assert letters.shape == (4, 3, 32)
    total = 0
    for first, second, letter in ((TEXTS[0], TEXTS[3], "A"), (TEXTS[3], TEXTS[0], "B")):
        question = CHOICE.format(first=first, second=second)
        kept, ids = states(tiny_llama, chat(tiny_llama, question, f"I choose ({letter}"))
        assert tiny_llama.tokenizer.decode(ids[-1:]) == letter
        total = total + kept[:, -1] / 2
    torch.testing.assert_close(letters[0], total, rtol=1e-4, atol=1e-4)


def test_sides_and_letters_can_be_read_without_the_chat_template(statements, tiny_llama):
    sides = read_sides(tiny_llama, statements[:1], context="raw", progress=False)
    kept, _ = states(tiny_llama, f"{TEXTS[0]}\n\n{QUESTION.format(concept='toxicity')}\n\nNo")
    torch.testing.assert_close(sides[0, 1], kept[:, -1], rtol=1e-4, atol=1e-4)
    assert read_letters(tiny_llama, statements, context="raw", progress=False).shape == (4, 3, 32)


def test_long_statements_are_cut_where_asked(statements, tiny_llama):
    cut = read_statements(tiny_llama, statements, max_tokens=5, progress=False)
    shorter = statements.assign(text=["You a", "Go aw", "Ünï", "x"])  # one token a byte
    assert torch.equal(cut[[0, 1, 3]], read_statements(tiny_llama, shorter, progress=False)[[0, 1, 3]])
    long = statements.assign(text=["x" * 600] * 4)
    with pytest.raises(InputError, match=r"prompt 0 has \d+ tokens, more than the 512 of the model's context; cut"):
        read_statements(tiny_llama, long, progress=False)
    assert read_statements(tiny_llama, long, max_tokens=300, progress=False).shape == (4, 3, 32)


def test_no_hook_is_left_behind(statements, tiny_llama):
    read_statements(tiny_llama, statements, progress=False)
    assert not any(hook.fwd_hooks for hook in tiny_llama.hook_dict.values())


def test_what_cannot_be_read_is_refused(statements, tiny_llama):
    def read(table, **options):
        return read_statements(tiny_llama, table, progress=False, **options)

    with pytest.raises(InputError, match="unknown position 'lst': did you mean last"):
        read(statements, position="lst")
    with pytest.raises(InputError, match="unknown context 'chta': did you mean chat"):
        read(statements, context="chta")
    with pytest.raises(InputError, match="components with axis d_model, got 'z'"):
        read(statements, component="z")
    with pytest.raises(InputError, match="first_token is for position 'mean', got position 'last'"):
        read(statements, first_token=True)
    with pytest.raises(InputError, match="statement 1: expected some text, got '  '"):
        read(statements.assign(text=["a", "  ", "b", "c"]))
    with pytest.raises(InputError, match=r"statement 2: question: it holds '<\|im_end\|>'"):
        read(statements.assign(text=["a", "b", "c <|im_end|>", "d"]))
    with pytest.raises(InputError, match="statement 3: 'x' has no token besides the first of the sequence"):
        read(statements, context="raw")
    with pytest.raises(InputError, match="max_tokens must be at least 1, got 0"):
        read(statements, max_tokens=0)
    with pytest.raises(InputError, match=r"pair 'a': expected two statements, got 1 \(rows \[0\]\)"):
        read_letters(tiny_llama, statements[:3], progress=False)


def test_reading_runs_on_meta_without_mixing_devices(statements, load_tiny):
    model = load_tiny("llama", device="meta")
    with refuse_mixed_devices():
        read = read_statements(model, statements, position="mean", progress=False)
        letters = read_letters(model, statements, progress=False)
    assert {read.device.type, letters.device.type} == {"meta"}
