"""The concepts, the published formats that carry them, and how a file is known by the names of its fields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mechmsc.statements import ethics, facts, instructions, pairs, stereotypes, toxicity
from mechmsc.statements.fields import Statement

__all__ = ["CONCEPTS", "FORMATS", "Format", "Statement"]

CONCEPTS: dict[str, str] = {
    "toxicity": "rude, insulting or hateful rather than civil",
    "stereotyping": "says of a group what is to be said of persons, rather than of individuals or nothing of the kind",
    "harmfulness": "asks for something that hurts, deceives or robs someone, rather than for something harmless",
    "truth": "true rather than false; a control concept",
    "immorality": "tells of a wrong, an unreasonable excuse or an undeserved claim, rather than of its acceptable twin",
    "disutility": "the less pleasant of two things to live through",
    "trait_fit": "the named trait fits what the person did; a match, not a virtue",
}
"""Concept -> what label 1 is more of."""


@dataclass(frozen=True)
class Format:
    """A published layout of labelled statements."""

    name: str
    """As in `load_statements(format=...)`."""
    concepts: tuple[str, ...]
    """The concepts it carries; empty: whatever the caller says."""
    label: str
    """What label 1 means here, for tables and error texts."""
    layouts: tuple[tuple[str, ...], ...]
    """A file fits when it has all field names of one of these; `a.b` is field b of the object a."""
    read: Callable[[Path], Iterator[Statement]]
    """A file -> its statements in file order; names file and line where a record is broken."""
    named: tuple[str, ...] = ()
    """Where the label stands in the file's name: how such names begin."""

    @property
    def expected(self) -> str:
        """The layout in words, for error texts."""
        if self.named:
            return f"files called {' or '.join(f'{start}...txt' for start in self.named)} with a sentence a line"
        return "the fields " + " or ".join(f"({', '.join(layout)})" for layout in self.layouts)

    def fits(self, path: Path, fields: set[str]) -> bool:
        """Whether a file with these fields (`field_names`) and this name is in the format."""
        if self.named:
            return path.name.startswith(self.named) and path.suffix == ".txt"
        return any(set(layout) <= fields for layout in self.layouts)


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("pairs", (), "the positive of a pair", pairs.LAYOUTS, pairs.read),
        Format("jigsaw", ("toxicity",), "toxic is 1", (toxicity.JIGSAW,), toxicity.read_jigsaw),
        Format("wiki_toxicity", ("toxicity",), "toxic is True", (toxicity.WIKI,), toxicity.read_wiki),
        Format("davidson", ("toxicity",), "hateful or offensive tweet", (toxicity.DAVIDSON,), toxicity.read_davidson),
        Format("hatecheck", ("toxicity",), "gold label hateful", (toxicity.HATECHECK,), toxicity.read_hatecheck),
        Format("toxigen", ("toxicity",), "sentence of a hate_ file", (), toxicity.read_toxigen, toxicity.TOXIGEN),
        Format("crows_pairs", ("stereotyping",), "sent_more", (stereotypes.CROWS,), stereotypes.read_crows),
        Format("stereoset", ("stereotyping",), "stereotype", stereotypes.STEREOSET, stereotypes.read_stereoset),
        Format("ethics", ethics.CONCEPTS, ethics.LABEL, ethics.LAYOUTS, ethics.read),
        Format("harmful_harmless", ("harmfulness",), "harmful", instructions.LAYOUTS, instructions.read),
        Format("facts", ("truth",), "label is 1, a true statement", (facts.COLUMNS,), facts.read),
    )
}
"""The public list: one line a format."""
