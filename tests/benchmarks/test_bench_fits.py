"""The benchmark of the fits runs on few statements, and what it compares are equal solutions; no time asserted."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bench_fits


def test_six_methods_are_timed_and_scikit_learn_finds_the_solutions_that_we_find():
    from mechmsc.directions import METHODS

    plain, sides, labels, pairs = bench_fits.statements(n=80, layers=2, d_model=12)
    assert list(bench_fits.six(plain, sides, labels, pairs)) == list(METHODS)
    _, _, difference = bench_fits.compared(plain, labels, pairs, layers=2)
    assert difference < 1e-3
