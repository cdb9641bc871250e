import json

import pytest

from mechmsc.errors import InputError
from mechmsc.statements import CONCEPTS, FORMATS, load_statements

COLUMNS = ["concept", "source", "text", "label", "group", "pair"]
WIKI = 'rev_id,comment,toxic\n1,"You are kind,\nreally",False\n2,You are a fool,True\n3,you are a FOOL!,True\n'
PAIRS = [
    {"positive": "Go away, fool.", "negative": "Come in, friend.", "group": "door"},
    {"positive": "What a stupid hat.", "negative": "What a large hat.", "group": "hat"},
]


@pytest.fixture
def written(tmp_path):
    """A function: name, text -> a file of it."""

    def write(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lines(records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def complaint(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        load_statements(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_frame_has_the_agreed_columns_types_and_index(written):
    frame = load_statements("toxicity", path=written("comments.csv", WIKI))
    assert frame.columns.tolist() == COLUMNS
    assert frame.index.tolist() == [0, 1, 2]
    assert frame["label"].tolist() == [0, 1, 1] and str(frame["label"].dtype) == "int64"
    assert frame["text"].tolist() == ["You are kind,\nreally", "You are a fool", "you are a FOOL!"]
    assert set(frame["concept"]) == {"toxicity"} and set(frame["source"]) == {"wiki_toxicity"}
    assert frame["pair"].tolist() == [None, None, None]


def test_texts_that_differ_in_capitals_and_punctuation_alone_share_a_group_and_others_do_not(written):
    kind, fool, loud = load_statements("toxicity", path=written("comments.csv", WIKI))["group"]
    assert fool == loud != kind


def test_a_limit_takes_the_first_and_changes_neither_text_nor_group(written):
    path = written("comments.csv", WIKI)
    whole, two = load_statements("toxicity", path=path), load_statements("toxicity", path=path, limit=2)
    assert two.equals(whole.head(2))
    assert len(load_statements("toxicity", path=path, limit=99)) == 3


def test_a_pair_that_the_limit_cuts_is_no_pair_any_more():
    whole, cut = load_statements("toxicity"), load_statements("toxicity", limit=3)
    assert cut["pair"].tolist() == [*whole["pair"][:2], None]
    assert cut["group"].tolist() == whole["group"][:3].tolist()


def test_files_of_a_folder_take_turns_pairs_stay_together_and_a_repeat_in_a_later_file_counts_once(written):
    written("folder/a.jsonl", lines(PAIRS))
    written("folder/b.jsonl", lines([{"positive": "Be quiet.", "negative": "Be seated.", "group": "talk"}]))
    path = written("folder/readme.txt", "not statements").parent
    frame = load_statements("toxicity", path=path)
    assert frame["text"].str.split().str[0].tolist() == ["Go", "Come", "Be", "Be", "What", "What"]
    assert frame["label"].tolist() == [1, 0] * 3 and frame["pair"].nunique() == 3
    for name in ("one/hate_a.txt", "one/hate_b.txt", "one/neutral_a.txt"):
        written(name, "they are new here\n" + name)
    texts = load_statements("toxicity", path=path.parent / "one")["text"].tolist()
    assert texts.count("they are new here") == 2  # once under each label


def test_files_of_one_name_in_two_folders_keep_their_pairs_and_groups_apart(written):
    header = ",sent_more,sent_less,stereo_antistereo,bias_type\n"
    for folder, who in (("a", "Ann"), ("b", "Bo")):
        written(f"two/{folder}/train.csv", f"{header}0,{who} cannot drive,{who} cannot swim,stereo,gender\n")
    frame = load_statements("stereotyping", path=written("two/x.txt", "x").parent)
    assert frame["pair"].tolist() == ["train:0001"] * 2 + ["train~2:0001"] * 2
    assert frame["group"].tolist() == frame["pair"].tolist()


def test_pairs_of_ones_own_may_be_of_any_concept_when_the_format_is_stated(written):
    path = written("mine.jsonl", lines(PAIRS))
    frame = load_statements("sarcasm", path=path, format="pairs")
    assert set(frame["concept"]) == {"sarcasm"} and set(frame["source"]) == {"pairs"}
    assert "no concept 'sarcasm'" in complaint("sarcasm", path=path)


def test_one_class_alone_is_loaded_for_the_fit_to_refuse(written):
    assert load_statements("toxicity", path=written("hate_x.txt", "they lie\nthey steal\n"))["label"].tolist() == [1, 1]


def test_unknown_names_are_answered_with_the_nearest_and_all(written):
    message = complaint("toxcity")
    assert "did you mean toxicity?" in message and all(name in message for name in CONCEPTS)
    message = complaint("toxicity", path=written("comments.csv", WIKI), format="wiki_toxic")
    assert "did you mean wiki_toxicity?" in message and all(name in message for name in FORMATS)
    assert complaint("toxicity", limit=0) == "limit must be at least 1 statement, got 0"
    assert "blank" in complaint(" ", format="pairs")


def test_a_concept_without_a_set_of_our_own_says_where_it_can_come_from():
    assert complaint("truth") == ("there is no set of our own for truth; give the path of a file in the format facts")
    assert "format 'jigsaw' needs a path" in complaint("toxicity", format="jigsaw")


def test_a_file_of_another_format_than_stated_is_named_for_what_it_looks_like(written):
    path = written("comments.csv", WIKI)
    message = complaint("toxicity", path=path, format="jigsaw")
    assert message == (
        f"{path} is not jigsaw: expected the fields (id, comment_text, toxic); "
        "found the fields comment, rev_id, toxic; this looks like wiki_toxicity"
    )
    assert "files called hate_...txt or neutral_...txt" in complaint("toxicity", path=path, format="toxigen")


def test_a_concept_that_the_format_does_not_carry_is_refused_with_and_without_stating_the_format(written):
    path = written("facts.csv", "statement,label\nThe sun is hot.,1\n")
    assert "looks like facts, which carries truth; it has no statements of toxicity" in complaint("toxicity", path=path)
    assert "facts carries truth, not toxicity" in complaint("toxicity", path=path, format="facts")
    virtue = written("v.csv", "label,scenario\n1,Ann gave bread to Bo. [SEP] kind\n")
    assert load_statements("trait_fit", path=virtue)["text"].tolist() == ["Ann gave bread to Bo. Trait: kind"]
    assert "ethics that carries trait_fit, not immorality" in complaint("immorality", path=virtue)


def test_an_unrecognised_file_is_answered_with_what_it_has_the_nearest_format_and_all(written):
    message = complaint("toxicity", path=written("x.csv", "rev_id,comment,rating\n1,hello,3\n"))
    assert "found the fields comment, rating, rev_id" in message
    assert "nearest is wiki_toxicity: the fields (rev_id, comment, toxic)" in message
    assert all(name in message for name in FORMATS)
    assert "nearest" not in complaint("toxicity", path=written("y.txt", "hello\n"))


def test_a_folder_of_several_formats_needs_the_format_stated(written):
    path = written("all/a.csv", WIKI).parent
    written("all/hate_b.txt", "they lie\n")
    assert "holds wiki_toxicity and toxigen, which all carry toxicity; state one" in complaint("toxicity", path=path)
    assert len(load_statements("toxicity", path=path, format="toxigen")) == 1


def test_missing_empty_and_bare_files_are_told_apart(written, tmp_path):
    assert "no such file or folder" in complaint("toxicity", path=tmp_path / "gone.csv")
    assert "the file is empty" in complaint("toxicity", path=written("e.csv", ""))
    assert "the file is empty" in complaint("toxicity", path=written("e.csv", " \n"), format="jigsaw")
    assert "holds no statements of toxicity" in complaint("toxicity", path=written("h.csv", "rev_id,comment,toxic\n"))
    assert "without .csv" in complaint("toxicity", path=written("bare/x.md", "x").parent)
    assert "not UTF-8" in complaint("toxicity", path=_latin(tmp_path))


def _latin(folder):
    path = folder / "latin.csv"
    path.write_bytes("rev_id,comment,toxic\n1,café,True\n".encode("latin-1"))
    return path


@pytest.mark.parametrize(
    ("name", "text", "concept", "line", "problem"),
    [
        ("w.csv", WIKI + "4,hello,maybe\n", "toxicity", 6, "'toxic' must be True or False, got 'maybe'"),
        ("w.csv", WIKI + "4,hello\n", "toxicity", 6, "expected 3 fields"),
        ("w.csv", WIKI + '4," ",True\n', "toxicity", 6, "'comment' must hold some text"),
        ("j.csv", "id,comment_text,toxic\na,hello,-1\n", "toxicity", 2, "'toxic' must be 0 or 1, got '-1'"),
        (
            "p.jsonl",
            lines([*PAIRS, {**PAIRS[0], "negative": None}]),
            "toxicity",
            3,
            "'negative' must be text, got null",
        ),
        ("p.jsonl", lines([*PAIRS, {"positive": "x"}]), "toxicity", 3, "missing negative, group"),
        ("p.jsonl", lines([PAIRS[0] | {"negative": "Go away, fool."}]), "toxicity", 1, "are the same text"),
        ("p.jsonl", lines(PAIRS) + "{", "toxicity", "3:2", "not JSON"),
        (
            "harmful_x.json",
            '[\n{"instruction": "x", "category": null},\n{"instruction": ""}]',
            "harmfulness",
            3,
            "text",
        ),
        ("harmful_x.json", '[\n{"instruction": "x", "category": null},\n\n7]', "harmfulness", 4, "expected an object"),
        ("v.csv", "label,scenario\n1,Ann ran. [SEP] quick\n0,Ann ran.\n", "trait_fit", 3, "[SEP] and a trait"),
        ("u.csv", '"I am glad today","I am sad today"\n"I am here now",""\n', "disutility", 2, "must hold some text"),
        ("u.csv", '"I am glad today","I am sad today"\na,b,c\n', "disutility", 2, "got 3 fields"),
        (
            "s.jsonl",
            '{"id": "1", "instruction": "x", "instances": 3}\n',
            "harmfulness",
            1,
            "'instances' must be a list",
        ),
    ],
)
def test_a_broken_record_is_named_by_file_and_line(written, name, text, concept, line, problem):
    path = written(name, text)
    message = complaint(concept, path=path)
    assert message.startswith(f"{path}:{line}: ") and problem in message


def test_a_broken_json_list_is_named_by_file_and_line(written):
    path = written("harmful_x.json", '[{"instruction": "x", "category": null},\n{"instruction": }]')
    assert complaint("harmfulness", path=path).startswith(f"{path}:2: not JSON")
    whole = written("s.json", '{"data": {"intrasentence": [{"id": 1}')
    assert "found no fields" in complaint("stereotyping", path=whole, format="stereoset")


def test_a_split_of_instructions_must_say_its_label_in_its_name(written):
    text = '[{"instruction": "Boil an egg", "category": null}]'
    assert load_statements("harmfulness", path=written("harmless_a.json", text))["label"].tolist() == [0]
    assert load_statements("harmfulness", path=written("harmful_a.json", text))["label"].tolist() == [1]
    assert "called harmful_... or harmless_..." in complaint("harmfulness", path=written("train.json", text))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_carries_and_what_its_label_means(name):
    form = FORMATS[name]
    assert form.name == name and form.label and form.expected and form.read.__doc__
    assert set(form.concepts) <= set(CONCEPTS)
