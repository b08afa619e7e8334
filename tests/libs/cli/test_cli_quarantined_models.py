"""What a new process has in quarantine and the one that it is to replace has not."""

from headrace.cli.diagnosis.quarantined_models import newly_held

PAGE = b"""# TYPE headrace_executor_quarantined gauge
headrace_executor_quarantined{model="a",version="1"} 1.0
headrace_executor_quarantined{model="b",version="2"} 1.0
headrace_executor_quarantined{model="c",version="3"} 0.0
"""


def test_what_is_new_is_named() -> None:
    assert newly_held(b"# nothing\n", PAGE) == ["a:1", "b:2"]
    assert newly_held(PAGE.replace(b'model="b"', b'model="d"'), PAGE) == ["b:2"]


def test_what_both_have_or_only_the_old_one_is_no_loss() -> None:
    assert newly_held(PAGE, PAGE) == newly_held(PAGE, b"# nothing\n") == []


def test_of_one_that_does_not_answer_nothing_is_known() -> None:
    assert newly_held(b"", PAGE) == []
