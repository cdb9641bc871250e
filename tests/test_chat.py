import itertools

import pytest
from conversations import (
    DATE,
    INSTRUCTION,
    LABELS,
    PREFIX,
    QUESTION,
    SYSTEMS,
    Wrapped,
    chat_of,
    conversation,
    hf_ids,
    natural_response,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import FAMILIES, tokenizer_of

from mechmsc.chat import ChatFormat
from mechmsc.errors import InputError, TemplateError

NOT_TODAY = [name for name in FAMILIES if name != "llama3 today"]  # transformers writes the real date there
WHOLE = [  # Llama 2 writes a blank before the end of turn, which a model does not draw
    (name, drawn)
    for name in ("smollm2", "zephyr", "llama3", "gemma", "llama2")
    for drawn in (True, False)
    if (name, drawn) != ("llama2", True)
]

every_family = pytest.mark.parametrize("name", FAMILIES)
every_system = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


@every_system
@pytest.mark.parametrize("name", NOT_TODAY)
def test_the_opening_equals_what_transformers_makes_of_it(name, system):
    chat = chat_of(name, system=system)
    assert list(chat.open(QUESTION, INSTRUCTION).ids) == hf_ids(chat, [f"{QUESTION}\n\n{INSTRUCTION}"])
    assert list(chat.open(f"  {QUESTION}\n").ids) == hf_ids(chat, [QUESTION])


@pytest.mark.parametrize("name, drawn", WHOLE)
def test_a_whole_conversation_equals_what_transformers_makes_of_it(name, drawn):
    chat = chat_of(name)
    turns = [f"{QUESTION}\n\n{INSTRUCTION}"]
    transcript = chat.open(QUESTION, INSTRUCTION)
    for answer in ("It was fair", "Nobody can tell, é", "not (c)"):
        end = [chat.closing_id] if drawn else []
        ids = [*natural_response(chat, turns, answer), *end]
        transcript = chat.reply(transcript, ids, stop_reason="eos" if drawn else "length")
        assert chat.text(transcript, transcript.span("response", transcript.rounds)).strip() == answer
        transcript = chat.ask(transcript, INSTRUCTION)
        turns += [answer, INSTRUCTION]
    assert list(transcript.ids) == hf_ids(chat, turns)


@every_system
@every_family
def test_prompt_and_response_of_every_round_are_the_beginning_of_all_later_conversations(name, system):
    for labels in ((), LABELS):
        steps = conversation(chat_of(name, system=system), labels=labels)
        for earlier, later in itertools.pairwise(steps):
            assert later.ids[: len(earlier.ids)] == earlier.ids
            assert later.spans[: len(earlier.spans)] == earlier.spans
        for round in (1, 2, 3):
            shown = steps[-1].prompt_ids(round) + steps[-1].response_ids(round)
            assert steps[-1].prompt_ids(round + 1)[: len(shown)] == shown
            assert steps[-1].up_to(round) == steps[2 * round - 2]


@every_system
@pytest.mark.parametrize("name", [name for name in NOT_TODAY if FAMILIES[name].bos])
def test_bos_stands_where_the_template_writes_it_and_never_twice(name, system):
    chat = chat_of(name, system=system)
    bos = chat.tokenizer.bos_token_id
    ids = conversation(chat)[-1].ids
    turns = [QUESTION, "a", INSTRUCTION, "a", INSTRUCTION, "a", INSTRUCTION]
    assert ids.count(bos) == hf_ids(chat, turns).count(bos)
    if name in ("llama3", "mistral", "gemma"):
        assert ids.count(bos) == 1 and ids[0] == bos
    assert (bos, bos) not in itertools.pairwise(ids)


def test_the_bos_check_can_fail_because_the_tokenizer_would_add_one():
    chat = chat_of("llama3")
    text = hf_ids(chat, [QUESTION], tokenize=False)
    assert chat.tokenizer(text)["input_ids"].count(chat.tokenizer.bos_token_id) == 2


@every_system
@every_family
def test_spans_hold_the_texts_that_were_given(name, system):
    chat = chat_of(name, system=system)
    transcript = conversation(chat, labels=LABELS)[-1]
    text = {(span.name, span.round): chat.text(transcript, span) for span in transcript.spans}
    assert text["question", 1] == QUESTION
    assert text["instruction", 1] == INSTRUCTION
    assert text["instruction", 3] == f"Once more, {INSTRUCTION}"
    assert text["prefix", 1] == text["prefix", 4]
    assert text["prefix", 1].startswith(PREFIX)
    own = "You are a small and friendly assistant" if name == "smollm2" else None
    assert text.get(("system", 1)) == (system or own)


@pytest.mark.parametrize("name", ["smollm2", "zephyr", "llama2", "llama3", "gemma"])
@settings(max_examples=40)
@given(
    question=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), min_size=1, max_size=30),
    instruction=st.text(st.sampled_from("ab?!.\n\t  é😀中'\"<|>/(["), min_size=1, max_size=20),
)
def test_any_question_and_instruction_come_back_as_text(name, question, instruction):
    chat = CHATS.setdefault(name, chat_of(name))
    if not question.strip() or not instruction.strip():
        with pytest.raises(InputError, match="expected some text"):
            chat.open(question, instruction)
        return
    transcript = chat.open(question, instruction)
    assert chat.text(transcript, transcript.span("question", 1)) == question.strip()
    assert chat.text(transcript, transcript.span("instruction", 1)) == instruction.strip()
    asked = chat.ask(chat.reply(transcript, [70], stop_reason="length"), instruction)
    assert chat.text(asked, asked.span("instruction", 2)) == instruction.strip()


CHATS: dict[str, ChatFormat] = {}


def test_readable_tokens_are_one_a_token_and_together_the_conversation():
    chat = chat_of("smollm2")
    transcript = chat.open("Who was at fault?")
    assert len(chat.tokens(transcript)) == len(transcript)
    assert "".join(chat.tokens(transcript)) == hf_ids(chat, ["Who was at fault?"], tokenize=False)
    sentencepiece = chat_of("llama2")
    assert " was" in sentencepiece.tokens(sentencepiece.open("Who was at fault?"))


@every_family
def test_a_drawn_end_of_turn_is_not_repeated_and_a_cut_response_is_closed_by_the_template(name):
    chat = chat_of(name)
    drawn = conversation(chat, rounds=2, end=(chat.closing_id,))[2]
    cut = conversation(chat, rounds=2)[2]
    assert drawn.ids.count(chat.closing_id) == cut.ids.count(chat.closing_id)
    assert drawn.ids[drawn.span("response", 1).end - 1] == chat.closing_id
    closing = cut.spans[cut.spans.index(cut.span("response", 1)) + 1]
    assert (closing.name, closing.round) == ("template", 2)
    assert chat.closing_id in cut.ids[closing.start : closing.end]


def test_an_end_of_turn_that_is_not_the_templates_is_kept_and_followed_by_the_templates():
    chat = chat_of("smollm2", extra_end_ids=[0])
    other, own = chat.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert chat.end_ids == {other, own}
    transcript = conversation(chat, rounds=2, end=(other,))[2]
    response = transcript.span("response", 1)
    assert transcript.ids[response.end - 1 : response.end + 1] == (other, own)
    assert chat.text(transcript, response) == chat.tokenizer.decode([61, 70, 71])


@pytest.mark.parametrize("name, ends", [("gemma", ["<end_of_turn>", "<eos>"]), ("llama2", ["</s>"])])
def test_end_ids_are_the_templates_closing_token_and_the_tokenizers(name, ends):
    chat = chat_of(name)
    assert chat.end_ids == set(chat.tokenizer.convert_tokens_to_ids(ends))


def test_a_stop_reason_that_does_not_fit_the_ids_is_refused():
    chat = chat_of("smollm2")
    opened = chat.open(QUESTION)
    with pytest.raises(InputError, match="'eos' does not fit"):
        chat.reply(opened, [70], stop_reason="eos")
    with pytest.raises(InputError, match="'length' does not fit"):
        chat.reply(opened, [chat.closing_id], stop_reason="length")
    assert chat.reply(opened, [], stop_reason="length").response_ids(1) == ()


def test_turns_out_of_turn_are_refused():
    chat = chat_of("smollm2")
    opened = chat.open(QUESTION, item_id="bbq/3")
    with pytest.raises(InputError, match="bbq/3.*no response yet"):
        chat.ask(opened, INSTRUCTION)
    replied = chat.reply(opened, [70], stop_reason="forced")
    with pytest.raises(InputError, match="does not wait"):
        chat.reply(replied, [70], stop_reason="forced")


@every_family
def test_labels_are_told_apart_after_the_tokens_that_they_share(name):
    chat = chat_of(name)
    options = chat.label_ids(PREFIX, LABELS)
    transcript = chat.open(QUESTION, INSTRUCTION, prefix=PREFIX, labels=LABELS)
    assert len({ids[0] for ids in options}) == 3
    prefix = chat.text(transcript, transcript.span("prefix", 1))
    for label, ids in zip(LABELS, options, strict=True):
        replied = chat.reply(transcript, ids, stop_reason="forced")
        span = replied.span("prefix", 1)
        shown = chat.tokenizer.decode(replied.ids[span.start :], skip_special_tokens=False)
        assert shown.strip() == f"{PREFIX} {label}"
        assert prefix in (PREFIX, f"{PREFIX} (")
    later = chat.ask(replied, INSTRUCTION, prefix=PREFIX, labels=LABELS)
    assert chat.text(later, later.span("prefix", 2)) == prefix


def test_a_prefix_is_read_as_one_text_with_the_prompt():
    chat = chat_of("llama2")
    text = hf_ids(chat, [QUESTION], tokenize=False)
    whole = chat.tokenizer(f"{text} {PREFIX}", add_special_tokens=False)["input_ids"]
    assert list(chat.open(QUESTION, prefix=PREFIX).ids) == whole


@pytest.mark.parametrize("labels", [("(a)",), ("(a)", "(a)"), ("A", "A.")])
def test_labels_that_cannot_be_told_apart_are_refused(labels):
    with pytest.raises(InputError, match="expected two or more that differ"):
        chat_of("smollm2").label_ids(PREFIX, labels)


def test_an_option_whose_ids_vary_with_the_conversation_is_refused():
    class Fickle(Wrapped):
        def __call__(self, text, **options):
            encoding = self.tokenizer(text, **options)
            encoding["input_ids"][-1] += "banana" in text
            return encoding

    chat = ChatFormat.of(Fickle(tokenizer_of("smollm2")), date=DATE)
    chat.open("An apple?", prefix=PREFIX, labels=LABELS)
    with pytest.raises(TemplateError, match="the same ids for an option"):
        chat.open("A banana?", prefix=PREFIX, labels=LABELS)


def test_an_instruction_is_tokenised_once_for_all_conversations():
    class Counting(Wrapped):
        calls = 0

        def __call__(self, *args, **options):
            self.calls += 1
            return self.tokenizer(*args, **options)

    tokenizer = Counting(tokenizer_of("smollm2"))
    chat = ChatFormat.of(tokenizer, date=DATE)
    replied = chat.reply(chat.open(QUESTION), [70], stop_reason="length")
    before = tokenizer.calls
    asked = [chat.ask(replied, INSTRUCTION) for _ in range(50)]
    assert tokenizer.calls == before + 1
    assert asked[0] == asked[-1] != chat.ask(replied, "Something else.")


def test_the_embedded_models_format_is_read_from_its_tokenizer(smollm2):
    chat = ChatFormat.of(smollm2.tokenizer, date=DATE)
    opened = chat.open(QUESTION, INSTRUCTION)
    assert list(opened.ids) == hf_ids(chat, [f"{QUESTION}\n\n{INSTRUCTION}"])
    assert chat.text(opened, opened.span("system", 1)).startswith("You are a helpful AI assistant named SmolLM")
    assert chat.tokenizer.convert_ids_to_tokens(sorted(chat.end_ids)) == ["<|im_end|>"]
    assert [len(ids) for ids in chat.label_ids(PREFIX, LABELS)] == [2, 2, 2]
    transcript = conversation(chat, labels=LABELS)[-1]
    assert [chat.text(transcript, span) for span in transcript.spans_of("prefix")] == [f"{PREFIX} ("] * 4
