"""The page of a run: it needs nothing else, says what the run holds and what it lacks, and finds what was planted."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from measured_runs import make_run
from planted_runs import planted_direction

TEXT = "<script>alert('x')</script> & \"{{ 7 * 7 }}\""


class Page(HTMLParser):
    """Tags, their attributes, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def planted(out, effect):
    """A run of the planted model, measured and intervened on."""
    import mechmsc as mm
    from mechmsc.causal import store_dose, store_mediation
    from mechmsc.model.planted import planted_items

    model = mm.planted_model(effect=effect, seed=1)
    options = {"permutations": 1, "progress": False}
    settings = {"arms": "moral,neutral", "rounds": 2, "samples": 0, "max_new_tokens": 3, "batch_size": 64, **options}
    run = mm.self_correct(model, planted_items(6, seed=1), **settings, sites="resid_post.prompt_end", out=out)
    direction = planted_direction(model)
    mm.measure_run(run, direction=direction, progress=False)
    run = mm.measure_run(run, uncertainty="choice_entropy,choice_entropy_within", progress=False)
    asked = {"outcome": "choice_entropy", "layers": 3, "placebos": 40, "rounds": [1], **options}
    store_mediation(model, run, direction, **asked)
    store_dose(model, run, direction, strengths=[-1.0, 0.0, 1.0], **asked)
    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Where an effect was planted: run, path of the report, link -> finding."""
    from mechmsc.report import write_report

    run = planted(tmp_path_factory.mktemp("planted") / "run", -0.4)
    path, findings = write_report(run)
    return run, path, {one.link: one for one in findings}


def test_an_effect_that_was_planted_is_told_link_by_link(report):
    _, _, found = report
    signs = {"concept": 1, "uncertainty": -1, "mediation": -1, "dose": -1}
    for link, sign in signs.items():
        assert (found[link].state, found[link].sign) == ("shown", sign), found[link].sentence
    assert "beyond placebo" in found["mediation"].sentence and "beyond placebo" in found["dose"].sentence
    assert "proportion mediated 100 %" in found["mediation"].sentence
    assert "The part instruction to concept to uncertainty holds" in found["chain"].sentence
    assert found["chain"].state != "shown" and "The chain as a whole is not shown" in found["chain"].sentence


def test_where_nothing_was_planted_none_beyond_placebo_is_found(tmp_path):
    from mechmsc.report import verdict_of

    found = {one.link: one for one in verdict_of(planted(tmp_path / "run", 0.0))}
    assert found["concept"].state == "shown"  # the instruction still writes on the axis
    for link in ("uncertainty", "mediation", "dose"):
        assert found[link].state == "absent", found[link].sentence
    assert "no effect beyond placebo was found" in found["mediation"].sentence
    assert "no effect beyond placebo was found" in found["dose"].sentence
    assert found["chain"].state == "absent" and "holds" not in found["chain"].sentence


def test_the_page_needs_nothing_else_and_is_light(report):
    run, path, found = report
    text = Path(path).read_text("utf-8")
    page = Page(text)
    assert page.open == [] and len(text) < 3e6
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    for _, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attributes
        assert "href" not in attributes
    assert "http" not in text.replace("http-equiv", "") and "url(" not in text and "@media print" in text
    assert sum(tag == "img" for tag, _ in page.tags) >= 4
    for one in found.values():
        assert one.sentence in page.text
    for part in ("Performance", "Concept", "Uncertainty", "Dose-response", "Mediation", "Settings and versions"):
        assert part in page.text
    for told in ("6 items (6 of social_bias)", "2 rounds", run.manifest["model"]["sha256"], "torch"):
        assert told in page.text
    for lacking in ("mechmsc patch", "mechmsc simulate", "three rounds or more"):
        assert lacking in page.text


def test_what_the_page_says_stands_in_files_of_the_run(report):
    from mechmsc.runs.effects import read_effect

    run, _, found = report
    contrasts, settings = read_effect(run.folder, "contrasts")
    assert settings["arguments"] == {"treatment": "moral", "control": "neutral", "seed": 0}
    mean = contrasts[(contrasts["link"] == "uncertainty") & contrasts["round"].isna()].iloc[0]
    wide = run.measures[run.measures["measure"] == "choice_entropy"].pivot_table(
        index="item_id", columns=["arm", "round"], values="value"
    )
    assert mean["value"] == pytest.approx((wide["moral"] - wide["neutral"]).mean().mean())
    verdict, _ = read_effect(run.folder, "verdict")
    assert set(verdict["sentence"]) == {one.sentence for one in found.values()}


def test_a_run_without_measures_names_what_would_make_them(tmp_path):
    import pandas

    from mechmsc.report import verdict_lines, write_report
    from mechmsc.report.reading import missing_of
    from mechmsc.runs.effects import write_effect

    run = make_run(tmp_path / "run", n_free=2, n_choice=7, rounds=2, samples=0)
    path, findings = write_report(run)
    page = Page(Path(path).read_text("utf-8"))
    states = {(one.task, one.link): one.state for one in findings}
    assert states["social_bias", "performance"] != "missing" and states["social_bias", "mediation"] == "missing"
    for command in ("mechmsc measure", "mechmsc mediate", "mechmsc dose", "mechmsc patch", "mechmsc simulate"):
        assert f"{command} {run.path}" in page.text
    for one in (one for one in findings if one.link in ("mediation", "dose")):
        assert f" --task {one.task}" in one.sentence and "--name" not in one.sentence
    empty = pandas.DataFrame({"x": [0]})
    write_effect(run.folder, "dose", empty, {"analysis": "dose_response of another task"})
    missing = missing_of(run, "moral", "neutral")
    assert "--task detoxification --name dose_detoxification" in missing["detoxification", "dose"]
    assert "--name" not in missing["detoxification", "mediation"]
    lines = verdict_lines(run, findings)
    assert "9 items (2 of detoxification, 7 of social_bias)" in lines[0] and len(lines) == 1 + len(findings)


def test_text_of_a_run_is_never_markup(tmp_path):
    from mechmsc.report import write_report

    run = make_run(tmp_path / "run", n_free=2, n_choice=0, rounds=1, samples=0)
    told = {**run.manifest, "model": {**run.manifest["model"], "name": TEXT}}
    spiked = replace(run, manifest=told)
    spiked.__dict__["transcripts"] = run.transcripts.assign(instruction=TEXT)
    page = Page(Path(write_report(spiked)[0]).read_text("utf-8"))
    assert TEXT in page.text and "script" not in [tag for tag, _ in page.tags]


def test_small_models_and_unfinished_runs_are_said_to_be(tmp_path):
    from mechmsc.report.reading import sizes

    run = make_run(tmp_path / "run", n_free=2, n_choice=0, rounds=1, samples=0)
    assert "no evidence about large models" not in sizes(run) and "not complete" not in sizes(run)
    model = {**run.manifest["model"], "name": "smollm2-135m-instruct"}
    small = replace(run, manifest={**run.manifest, "model": model, "status": "running"})
    assert "no evidence about large models" in sizes(small) and "not complete" in sizes(small)


def test_arms_are_chosen_and_refused():
    from mechmsc import InputError
    from mechmsc.report.contrasts import arms_of
    from mechmsc.runs import Run
    from mechmsc.runs.folder import Folder

    def run(*arms):
        return Run(path="RUN", manifest={"config": {"arms": list(arms)}}, folder=Folder.of("RUN"))

    assert arms_of(run("moral", "neutral", "none")) == ("moral", "neutral")
    assert arms_of(run("none", "moral")) == ("moral", "none")
    assert arms_of(run("neutral", "immoral")) == ("immoral", "neutral")
    assert arms_of(run("moral", "immoral")) == ("moral", "immoral")
    assert arms_of(run("moral")) == ("moral", None)
    assert arms_of(run("moral", "neutral"), "neutral", "moral") == ("neutral", "moral")
    with pytest.raises(InputError, match="did you mean moral"):
        arms_of(run("moral", "neutral"), "morral")
    with pytest.raises(InputError, match="twice"):
        arms_of(run("moral", "neutral"), "moral", "moral")


def test_an_arm_of_one_round_is_the_control_of_all_rounds(tmp_path):
    from mechmsc.report.contrasts import contrasts

    run = make_run(tmp_path / "run", n_free=0, n_choice=7, arms=("moral", "none"), rounds=3, samples=0)
    rows = contrasts(run).query("link == 'performance'")
    wide = run.transcripts.pivot(index="item_id", columns=["arm", "round"], values="score")
    expected = [(wide["moral", t] - wide["none", 1]).mean() for t in (1, 2, 3)]
    assert list(rows["value"]) == pytest.approx([sum(expected) / 3, *expected])
    assert list(rows["round"].astype(object).where(rows["round"].notna(), None)) == [None, 1, 2, 3]


def test_the_report_of_the_command_line_loads_no_torch_and_the_same_again_changes_no_byte(tmp_path):
    from mechmsc.report import write_report

    run = make_run(tmp_path / "run", n_free=0, n_choice=7, arms=("moral", "neutral"), rounds=1, samples=0)
    path, findings = write_report(run)
    before = Path(path).read_bytes()
    code = "import sys\nfrom mechmsc.cli import main\ntry:\n    main(['report', sys.argv[1]])\nfinally:\n"
    code += "    print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0] == path and lines[-1] == "False", done.stderr
    assert len(lines) == 3 + len(findings) and Path(path).read_bytes() == before
