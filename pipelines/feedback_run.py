"""`fbt feedback`: runs the feedback pipeline on this machine."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.feedback.examples import EXAMPLES_FILE
from pipelines.home import Home
from pipelines.parameters import FeedbackParameters
from pipelines.progress import Progress
from pipelines.run import RunFailed, format_failure, run_child

URL = "FBT_EVENTS_URL"


@dataclass(frozen=True)
class FeedbackResult:
    page: Path
    examples: Path
    """For `fbt run --feedback`."""


def run_feedback(
    parameters: FeedbackParameters,
    home: Home,
    events: str = "",
    show: Callable[[str], None] = print,
) -> FeedbackResult:
    """`events` is the URL of the sink. Raises RunFailed."""
    # Not as a parameter, which KFP shows to everybody: the URL may have a password.
    environment = {URL: events or os.environ.get(URL) or _find_events(home)}
    progress = Progress(show)
    log = home.logs / f"feedback-{time.strftime('%Y%m%d-%H%M%S')}.log"
    if run_child("feedback", parameters, True, progress, log, environment):
        raise RunFailed(format_failure(progress, log, None))
    page = home.root / "feedback.html"
    pages = home.runs.glob("fbt-feedback-*/measure/page")
    shutil.copyfile(max(pages, key=lambda file: file.stat().st_mtime), page)
    return FeedbackResult(page, Path(parameters.archive) / EXAMPLES_FILE)


def _find_events(home: Home) -> str:
    file = home.root / "events.db"
    return f"sqlite:///{file}" if file.exists() else ""
