"""The run folder: what other programs read, what resumes, what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from toy_run import ARMS, ITEMS, ROUNDS, SITES, assert_same_run, batch_content, do_run, files_of, settings

from mechmsc import runs
from mechmsc.errors import InputError, RunError


def test_pandas_and_xarray_read_a_finished_run_directly(tmp_path):
    import pandas as pd
    import xarray as xr

    do_run(tmp_path / "run")
    table = pd.read_parquet(tmp_path / "run/transcripts.parquet")
    expected = [(i, a, t) for i in ITEMS for a in ARMS for t in range(1, 2 if a == "none" else ROUNDS + 1)]
    assert list(table[["item_id", "arm", "round"]].itertuples(index=False, name=None)) == expected
    assert table["choice"].dtype == "Int32" and table["choice"].notna().sum() == 7
    row = table[table.item_id == "toy/a"].iloc[0]
    assert row["choice_probs"].dtype == np.float32 and row["prompt_ids"].dtype == np.int32
    assert [list(p) for p in row["permutation_probs"]] == [
        [np.float32(0.2), np.float32(0.8)],
        [np.float32(0.3), np.float32(0.7)],
    ]
    assert (tmp_path / "run/transcripts.parquet").is_file() and (tmp_path / "run/samples.parquet").is_file()
    samples = pd.read_parquet(tmp_path / "run/samples.parquet")
    assert len(samples) == 2 * len(expected) and samples["seed"].iloc[1] == 2**40 + 1
    data = xr.open_zarr(tmp_path / "run/activations.zarr")
    assert data[SITES[0]].dims == ("item", "arm", "round", "layer", "d_model") and data[SITES[0]].dtype == np.float32
    entry = {"batch": 0, "rows": [["toy/a", "moral"]]}
    wanted = batch_content(entry)["activations"][SITES[1]][0, 1, 1, :, 0]
    got = data[SITES[1]].sel(item="toy/a", arm="moral", round=2, layer=1, source_position="question")
    np.testing.assert_array_equal(got.values, wanted)


def test_a_round_that_did_not_take_place_has_no_row_and_is_nan(tmp_path):
    run = do_run(tmp_path / "run")
    assert set(run.transcripts.query("arm == 'none'")["round"]) == {1}
    values = run.activations[SITES[0]].sel(arm="none")
    assert values.sel(round=1).notnull().all() and values.sel(round=[2, 3]).isnull().all()


def test_a_run_in_progress_shows_what_is_committed(tmp_path):
    with runs.create(tmp_path / "run", **settings()) as writer:
        assert runs.open_run(tmp_path / "run").transcripts.empty
        assert list(runs.open_run(tmp_path / "run").samples.columns)[:4] == ["item_id", "arm", "round", "sample"]
        first, second, _ = writer.pending()
        writer.commit(second, **batch_content(second))
        writer.commit(first, **batch_content(first))
        run = runs.open_run(tmp_path / "run")
        assert run.status == "running" and run.measures is None and run.summaries is None
        assert list(dict.fromkeys(run.transcripts.item_id)) == ITEMS[:3]
        assert run.activations[SITES[0]].sel(item="toy/d").isnull().all()
        assert [entry["batch"] for entry in writer.pending()] == [2]


def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(tmp_path):
    whole = do_run(tmp_path / "whole")
    for _ in range(3):
        with runs.create(tmp_path / "parts", **settings()) as writer:
            batch = next(writer.pending())
            writer.commit(batch, **batch_content(batch))
    resumed = do_run(tmp_path / "parts")
    assert_same_run(whole, resumed)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")
    other = do_run(tmp_path / "other", content=lambda batch: batch_content(batch, noise=1e-6))
    with pytest.raises(AssertionError):
        assert_same_run(whole, other)


def test_a_complete_run_has_nothing_pending_and_minds_no_other_versions(tmp_path):
    do_run(tmp_path / "run")
    before = files_of(tmp_path / "run")
    with runs.create(tmp_path / "run", **settings(versions={"torch": "3"})) as writer:
        assert list(writer.pending()) == []
        assert writer.finish().status == "complete"
    assert files_of(tmp_path / "run") == before


def test_samples_are_absent_where_none_were_asked_for(tmp_path):
    with runs.create(tmp_path / "run", **settings(arrays={})) as writer:
        for batch in writer.pending():
            writer.commit(batch, transcripts=batch_content(batch)["transcripts"])
        run = writer.finish()
    assert run.samples.empty and not (tmp_path / "run/samples.parquet").exists()
    assert dict(run.activations.data_vars) == {}


def test_item_ids_in_the_configuration_set_the_order(tmp_path):
    config = settings()["config"] | {"item_ids": sorted(ITEMS)}
    run = do_run(tmp_path / "run", config=config)
    assert list(run.activations.item.values) == list(dict.fromkeys(run.transcripts.item_id)) == sorted(ITEMS)
    moral = do_run(tmp_path / "plan").activations[SITES[0]].sel(item="toy/b", arm="moral")
    np.testing.assert_array_equal(run.activations[SITES[0]].sel(item="toy/b", arm="moral").values, moral.values)


def test_a_transcript_is_cut_at_the_prompt_of_its_round(tmp_path):
    run = do_run(tmp_path / "run")
    conversation = run.transcript("toy/a", arm="moral", round=2)
    assert conversation.ids == tuple(range(20)) and conversation.prompt_end(1) == 19
    with pytest.raises(InputError, match="no arm 'morral'.*did you mean moral"):
        run.transcript("toy/a", arm="morral", round=2)
    with pytest.raises(InputError, match="no round 2 here, .*known: 1"):
        run.transcript("toy/a", arm="none", round=2)


def test_items_are_kept_as_they_were_asked_and_an_old_run_gets_them_when_it_is_repeated(tmp_path):
    from mechmsc.tasks import load_items

    asked = [*load_items("social_bias", limit=2), *load_items("detoxification", limit=1)]
    with pytest.raises(InputError, match="has no items.jsonl: repeat"):
        do_run(tmp_path / "run").items  # noqa: B018 - the access is the test
    do_run(tmp_path / "run", items=asked)
    assert runs.open_run(tmp_path / "run").items == asked
    (tmp_path / "run" / "items.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="items.jsonl is damaged"):
        runs.open_run(tmp_path / "run").items  # noqa: B018


def test_a_remote_folder_resumes_and_reads_like_a_local_one(tmp_path):
    import fsspec

    local, url = do_run(tmp_path / "run"), "memory://bucket/runs/first"
    with runs.create(url, **settings()) as writer:
        batch = next(writer.pending())
        writer.commit(batch, **batch_content(batch))
        with pytest.raises(RunError, match="delete memory://bucket"):
            do_run(url)
        assert len(runs.open_run(url).transcripts) == 8
    remote = do_run(url)
    assert_same_run(local, remote)
    assert remote.path == url and not [
        n for n in fsspec.filesystem("memory").find("/bucket") if ".lock" in n or ".tmp" in n
    ]
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_the_light_checks_load_the_standard_library_alone(tmp_path):
    code = (
        "import sys, mechmsc.runs as runs; runs.check_out(sys.argv[1])\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'zarr', 'xarray', 'fsspec', 'filelock', 'torch'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
