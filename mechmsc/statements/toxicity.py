"""Toxic and civil text: Jigsaw, Wikipedia comments, Davidson's tweets, HateCheck, ToxiGen.

They do not mean the same by toxic: comments are rude, HateCheck and ToxiGen are hateful towards groups, and rude words
alone do not count there. Transfer between them is a question, not a given.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mechmsc.errors import InputError
from mechmsc.statements.fields import Statement, place, statement
from mechmsc.statements.grouping import joined, normalised
from mechmsc.tasks.reading import read_csv, read_text

JIGSAW = ("id", "comment_text", "toxic")
WIKI = ("rev_id", "comment", "toxic")
DAVIDSON = ("hate_speech", "offensive_language", "neither", "class", "tweet")
HATECHECK = ("functionality", "test_case", "label_gold", "templ_id", "ref_templ_id")
TOXIGEN = ("hate_", "neutral_")
_HANDLE = re.compile(r"\bRT\b|@\w+|https?://\S+|&#?\w+;")


def read_jigsaw(path: Path) -> Iterator[Statement]:
    """Comments of the Jigsaw challenge's train.csv; label 1 is `toxic`, whatever the five finer columns say.

    group: equal texts. Jigsaw / Conversation AI 2018; CC0, comment text CC BY-SA 3.0.

    Raises:
        InputError: not the format, or a label that is not 0 or 1 (the challenge's unused test rows have -1); names file
            and line.
    """
    for row in read_csv(path, layouts=(JIGSAW,), expected=f"Jigsaw as CSV with {', '.join(JIGSAW)}"):
        label = int(row.one_of("toxic", ("0", "1")))
        yield statement(row.text("comment_text"), label, group=place(row), source="jigsaw")


def read_wiki(path: Path) -> Iterator[Statement]:
    """Wikipedia talk-page comments; label 1 is `toxic` True.

    group: equal texts. Dixon et al. 2018, conversationai/unintended-ml-bias-analysis; CC BY 4.0, comment text CC BY-SA
    3.0.

    Raises:
        InputError: not the format; names file and line.
    """
    for row in read_csv(path, layouts=(WIKI,), expected=f"Wikipedia comments as CSV with {', '.join(WIKI)}"):
        label = int(row.one_of("toxic", ("True", "False")) == "True")
        yield statement(row.text("comment"), label, group=place(row), source="wiki_toxicity")


def read_davidson(path: Path) -> Iterator[Statement]:
    """Tweets of labeled_data.csv; label 1 is class 0 (hateful) or 1 (offensive), label 0 is class 2 (neither).

    group: equal tweets but for handles, links and retweet marks. Davidson et al. 2017, arXiv:1703.04009; MIT.

    Raises:
        InputError: not the format; names file and line.
    """
    for row in read_csv(path, layouts=(DAVIDSON,), expected=f"Davidson as CSV with {', '.join(DAVIDSON)}"):
        tweet = row.text("tweet")
        said = normalised(_HANDLE.sub(" ", tweet)) or place(row)
        yield statement(
            tweet, int(row.one_of("class", ("0", "1", "2")) != "2"), group=f"tweet: {said}", source="davidson"
        )


def read_hatecheck(path: Path) -> Iterator[Statement]:
    """Test cases of HateCheck; label 1 is `hateful`. Rude words against nobody's group are label 0 there.

    group: the template, together with the template it was derived from (`ref_templ_id`): a template is filled with
    seven identities, and its spelling variants and negations say nearly the same.
    Röttger et al. 2021, arXiv:2012.15606; CC BY 4.0.

    Raises:
        InputError: not the format; names file and line.
    """
    rows = list(read_csv(path, layouts=(HATECHECK,), expected=f"HateCheck as CSV with {', '.join(HATECHECK)}"))
    templates = [(row.text("templ_id"), row.values["ref_templ_id"] or row.text("templ_id")) for row in rows]
    for row, group in zip(rows, joined(templates), strict=True):
        label = int(row.one_of("label_gold", ("hateful", "non-hateful")) == "hateful")
        yield statement(row.text("test_case"), label, group=f"template {group}", source="hatecheck")


def read_toxigen(path: Path) -> Iterator[Statement]:
    r"""Sentences of a ToxiGen text file; the label is in its name: hate_GROUP... is 1, neutral_GROUP... is 0.

    Demonstrations have a sentence a line. A prompt is several sentences, each after "- " and joined by a literal \n;
    prompts of a file repeat the same demonstrations in ever new orders, so each sentence is taken once.
    group: the sentence. Both labels speak of the same groups of people, so the people named do not give the label away,
    and holding out whole groups of people would leave too few to split.
    Hartvigsen et al. 2022, arXiv:2203.09509; MIT with a data agreement: the text must travel with its licence.

    Raises:
        InputError: another file name.
    """
    if not path.name.startswith(TOXIGEN):
        raise InputError(f"{path}: expected a ToxiGen file called hate_GROUP... or neutral_GROUP..., with its label")
    label = int(path.name.startswith("hate_"))
    seen: dict[str, str] = {}
    for line in read_text(path, expected="ToxiGen sentences").splitlines():
        for part in line.split("\\n") if line.startswith("- ") else [line]:
            text = part.removeprefix("-").strip()
            if text:
                seen.setdefault(normalised(text), text)
    for key, text in seen.items():
        yield statement(text, label, group=f"sentence: {key}", source="toxigen")
