"""Names of sites, and what is said about wrong ones."""

import pytest

from mechmsc.errors import InputError
from mechmsc.sites import COMPONENTS, DEFAULT_SITES, OPEN, POSITIONS, CaptureSite, Site, parse_sites


def test_every_component_at_every_position_is_read_back_from_its_name():
    sites = [CaptureSite(component, position) for component in COMPONENTS for position in POSITIONS]
    names = [str(site) for site in sites]
    assert parse_sites(names) == parse_sites(tuple(names)) == parse_sites(" , ".join(names)) == sites


def test_a_component_may_be_written_as_transformer_lens_writes_its_hook():
    assert parse_sites("hook_resid_post.prompt_end") == [CaptureSite("resid_post", "prompt_end")]


def test_none_keeps_nothing_and_the_default_keeps_the_residual_stream_at_three_positions():
    assert parse_sites("none") == []
    assert [str(site) for site in parse_sites(DEFAULT_SITES)] == list(DEFAULT_SITES)
    assert {site.component for site in parse_sites(DEFAULT_SITES)} == {"resid_post"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resid_pots.prompt_end", "unknown component 'resid_pots'.*resid_post"),
        ("resid_post.prompt_edn", "unknown position 'prompt_edn'.*prompt_end"),
        ("resid_post", "expected a site as component.position.*got 'resid_post'"),
        ("", "expected a site as component.position.*got ''"),
        ("z.prompt_end,none", "expected a site as component.position.*got 'none'"),
        ("z.prompt_end,hook_z.prompt_end", "site 'z.prompt_end' is named twice"),
    ],
)
def test_a_wrong_name_is_answered_in_one_line_with_the_nearest_right_one(text, expected):
    with pytest.raises(InputError, match=expected) as error:
        parse_sites(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("component", "dims", "hook"),
    [
        ("resid_post", ("layer", "d_model"), "blocks.3.hook_resid_post"),
        ("z", ("layer", "head", "d_head"), "blocks.3.attn.hook_z"),
        ("pattern", ("layer", "head", "source_position"), "blocks.3.attn.hook_pattern"),
        ("result", ("layer", "head", "d_model"), "blocks.3.attn.hook_z"),
        ("mlp_post", ("layer", "d_mlp"), "blocks.3.mlp.hook_post"),
        ("ln1_normalized", ("layer", "d_model"), "blocks.3.ln1.hook_normalized"),
    ],
)
def test_a_site_knows_its_hook_and_the_names_of_its_axes(component, dims, hook):
    site = CaptureSite(component, "response_mean")
    assert site.dims == dims
    assert site.hook(3) == hook


def test_every_component_is_a_hook_of_a_real_model(tiny_llama):
    for component in COMPONENTS:
        assert CaptureSite(component, "prompt_end").hook(2) in tiny_llama.hook_dict


@pytest.fixture(scope="module")
def talk():
    """Two rounds about options, the second waiting: every span there is, and an end of turn inside of a response."""
    from conversations import PREFIX, QUESTION, chat_of

    chat = chat_of("smollm2", system="Be fair.")
    options = {"prefix": PREFIX, "item_id": "t/1"}
    transcript = chat.open(QUESTION, "Please answer fairly.", **options)
    end = chat.closing_id
    transcript = chat.reply(transcript, [60, 61, 62, end], stop_reason="eos")
    return chat.ask(transcript, "Once more.", prefix=PREFIX), chat.end_ids


@pytest.mark.parametrize("round", [1, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_a_named_position_is_the_one_that_a_run_keeps_activations_of(talk, position, round):
    from mechmsc.capture import position_tokens

    transcript, end_ids = talk
    site = Site.named(position, layer=3, round=round)
    if position.startswith("response") and round == 2:
        return
    expected = position_tokens(transcript, position, round=round, end_ids=end_ids)
    assert site.tokens(transcript, end_ids) == (expected,)
    assert expected


def test_the_rule_at_takes_tokens_of_every_round_or_of_one(talk):
    transcript, end_ids = talk
    spans = [transcript.content("instruction", round, end_ids) for round in (1, 2)]
    found = {
        at: Site("z", span="instruction", at=at).tokens(transcript, end_ids)
        for at in ("all", "mean", "first", "last", 1, -2, range(2))
    }
    assert found["all"] == found["mean"] == tuple(spans)
    assert found["first"] == tuple(s[:1] for s in spans)
    assert found["last"] == tuple(s[-1:] for s in spans)
    assert found[1] == tuple(s[1:2] for s in spans)
    assert found[-2] == tuple(s[-2:-1] for s in spans)
    assert found[range(2)] == tuple(s[:2] for s in spans)
    assert Site("z", span="instruction", round=2).tokens(transcript, end_ids) == (spans[1],)
    assert Site("z", span="instruction", round=3).tokens(transcript, end_ids) == ()
    assert Site("z", span="image").tokens(transcript, end_ids) == ()


def test_a_prompt_is_every_token_before_a_response_and_its_mean_leaves_out_the_first_and_ends_of_turns(talk):
    transcript, end_ids = talk
    end = transcript.prompt_end(2)
    assert Site("z", span="prompt", round=2).tokens(transcript, end_ids) == (tuple(range(end + 1)),)
    (mean,) = Site("z", span="prompt", round=2, at="mean").tokens(transcript, end_ids)
    assert mean == tuple(i for i in range(1, end + 1) if transcript.ids[i] not in end_ids)
    assert len(mean) < end
    assert Site("z").tokens(transcript, end_ids) == (range(OPEN),)


def test_the_tokens_of_a_response_that_is_still_to_be_drawn_are_open(talk):
    transcript, end_ids = talk
    start = len(transcript)
    tokens = lambda at: Site("z", span="response", round=2, at=at).tokens(transcript, end_ids)  # noqa: E731
    assert tokens("all") == (range(start, OPEN),)
    assert tokens("first") == tokens(0) == (range(start, start + 1),)
    assert tokens(3) == (range(start + 3, start + 4),)
    assert tokens(range(4)) == (range(start, start + 4),)
    for at in ("last", "mean", -1):
        with pytest.raises(InputError, match="still to be drawn"):
            tokens(at)
    ended = transcript.content("response", 1, end_ids)
    assert Site("z", span="response", at="last").tokens(transcript, end_ids) == (ended[-1:],)
    assert Site("z", span="response").tokens(transcript, end_ids) == (ended, range(start, OPEN))


def test_whole_numbers_of_numpy_make_the_same_site():
    import numpy as np

    one, two = np.arange(1, 3)
    site = Site("z", layer=two, head=one, span="instruction", round=two, at=one)
    assert site == Site("z", layer=2, head=1, span="instruction", round=2, at=1)
    assert {type(x) for x in (site.layer, site.head, site.round, site.at)} == {int}


def test_a_site_counts_its_layers_and_writes_itself_shortly():
    assert Site("z", layer=3).layers(4) == (3,)
    assert Site("z", layer=range(1, 3)).layers(4) == (1, 2)
    assert Site("z").layers(4) == (0, 1, 2, 3)
    site = Site("z", layer=range(1, 3), head=2, span="instruction", round=2, at="last")
    assert str(site) == "z[1-2].head2.instruction@2.last"
    assert str(Site("resid_post")) == "resid_post"
    assert site.hook(2) == "blocks.2.attn.hook_z"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Site("resid_pots"), "unknown component 'resid_pots'.*did you mean resid_post"),
        (lambda: Site("z", span="instructoin"), "unknown span 'instructoin'.*did you mean instruction"),
        (lambda: Site("z", span="prompt", at="lst"), "unknown at 'lst': did you mean last"),
        (lambda: Site("z", at="last"), "round and at need a span"),
        (lambda: Site("z", round=1), "round and at need a span"),
        (lambda: Site("z", span="prompt", round=0), "expected a round from 1, got 0"),
        (lambda: Site.named("prompt_ned"), "unknown position 'prompt_ned': did you mean prompt_end"),
        (lambda: Site("z", layer=4).layers(4), "expected layers from 0 to 3, got 4"),
        (lambda: Site("z", layer=-1).layers(4), "expected layers from 0 to 3, got -1"),
        (lambda: Site("z", layer=range(2, 2)).layers(4), "expected layers from 0 to 3"),
    ],
)
def test_a_site_that_cannot_be_is_refused_in_one_line(make, error):
    with pytest.raises(InputError, match=error) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_an_index_outside_of_the_span_is_refused_with_the_size_of_the_span(talk):
    transcript, end_ids = talk
    n = len(transcript.content("instruction", 2, end_ids))
    for at in (n, -n - 1, range(n + 1)):
        with pytest.raises(InputError, match=f"expected at within the {n} tokens of 'instruction' in round 2 of 't/1'"):
            Site("z", span="instruction", round=2, at=at).tokens(transcript, end_ids)
