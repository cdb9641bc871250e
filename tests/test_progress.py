"""Progress in a log: a line a minute and one at the end, never a bar."""

import io

import pytest


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    from mechmsc import progress

    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute_with_what_is_left(clock, monkeypatch):
    from mechmsc.progress import bar

    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with bar("conversation rounds", 10, show=True, done=2) as advance:
        for seconds in (30, 59, 61, 62, 130):
            clock[0] = seconds
            advance()
        assert log.getvalue().splitlines() == [
            "conversation rounds 5/10, 0:01:01, left 0:01:42",  # 3 in 61 seconds, 5 to go
            "conversation rounds 7/10, 0:02:10, left 0:01:18",
        ]
        advance(3)
    assert log.getvalue().splitlines()[2:] == ["conversation rounds 10/10, 0:02:10"]


def test_work_that_fails_says_how_far_it_came_and_hidden_progress_says_nothing(clock, monkeypatch):
    from mechmsc.progress import bar

    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with pytest.raises(MemoryError), bar("batches", 4, show=True) as advance:
        advance()
        raise MemoryError
    assert log.getvalue() == "batches 1/4, 0:00:00, left 0:00:00\n"
    with bar("batches", 4, show=False) as advance:
        clock[0] = 1000.0
        advance()
    assert log.getvalue().count("\n") == 1
