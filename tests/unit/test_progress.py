"""What a person sees of a run, from kfp.local's own output."""

import textwrap

from pipelines.progress import Progress, find_report

OUTPUT = textwrap.dedent(
    """\
    08:13:36.738 - INFO - Executing task \x1b[96m'read-orders'\x1b[0m
        · 12 lines read
    08:13:37.7 - INFO - Task \x1b[96m'read-orders'\x1b[0m finished with status \x1b[92mSUCCESS
    08:13:37.800 - INFO - Task build-baskets cache hit (key=abc123def456); skipping execution.
    08:13:38.000 - INFO - Executing task \x1b[96m'gate'\x1b[0m
        Traceback (most recent call last):
          File "x.py", line 1, in <module>
        components.evaluation.gate.GateFailed: the model lost
        - by 0.01 to popularity

    08:13:38.738 - ERROR - Task \x1b[96m'gate'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
    Traceback (most recent call last):
    RuntimeError: Pipeline 'fbt-training' finished with status FAILURE.
    """
)


def test_steps_are_shown_and_the_steps_own_reason_is_kept():
    shown = []
    progress = Progress(shown.append)
    progress.follow(OUTPUT.splitlines(keepends=True))
    assert [line.split()[:2] for line in shown] == [
        ["…", "read-orders"], ["12", "lines"], ["✓", "read-orders"],
        ["✓", "build-baskets"], ["…", "gate"], ["✗", "gate"],
    ]  # fmt: skip
    assert progress.failed == "gate"
    assert progress.reason == "the model lost\n- by 0.01 to popularity"
    assert progress.cache_keys == {"build-baskets": "abc123def456"}
    assert set(progress.seconds) == {"read-orders", "build-baskets", "gate"}


def test_a_run_that_data_checks_ended_has_their_page_as_its_report(tmp_path):
    page = tmp_path / "runs" / "one" / "check-baskets" / "page"
    page.parent.mkdir(parents=True)
    page.touch()
    ended = Progress(print, seconds={"check-baskets": 1.0}, failed="check-baskets")
    assert find_report(tmp_path / "runs", tmp_path, ended) == page
    earlier = Progress(print, seconds={"read-orders": 1.0}, failed="read-orders")
    assert find_report(tmp_path / "runs", tmp_path, earlier) is None
