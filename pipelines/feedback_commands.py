"""The commands of the feedback pipeline: on this machine, on a cluster, every night."""

from typing import Annotated

from cyclopts import App, Group, Parameter

from pipelines.home import open_home
from pipelines.parameters import FeedbackParameters
from pipelines.submit import Target

Feedback = Annotated[FeedbackParameters, Parameter(name="*", group="Feedback")]
Server = Annotated[Target, Parameter(name="*", group="Server and placement")]
DEFAULT_TARGET = Target()

feedback = App(name="feedback", help="Report what shoppers did, and make examples for training.")


@feedback.default
def run(*, parameters: Feedback, events: str = "") -> None:
    """Report what shoppers did, and make examples of it for the next run, on this machine.

    The report is feedback.html in FBT_HOME; online.html of `fbt report online` stays as it is.

    Args:
        events: URL of the sink whose events are moved to the archive first (default:
            FBT_EVENTS_URL, else events.db in FBT_HOME if it is there)
    """
    from pipelines.feedback_run import run_feedback

    result = run_feedback(parameters, open_home(), events)
    print(f"report: {result.page}")
    print(f"train with it: fbt run --feedback {result.examples} …")


@feedback.command
def submit(*, parameters: Feedback, target: Server = DEFAULT_TARGET, wait: float = 0) -> None:
    """Do it on a cluster: upload this code and run it.

    Args:
        wait: seconds for the end of the run
    """
    from pipelines.submit import submit

    submit(parameters, target, wait)


@feedback.command
def schedule(
    *,
    parameters: Feedback | None = None,
    target: Server = DEFAULT_TARGET,
    name: str = "nightly",
    cron: str = "30 1 * * *",
    remove: bool = False,
) -> None:
    """Do it on a cluster regularly.

    Args:
        name: name of the schedule
        cron: minute, hour, day, month and weekday, in UTC
        remove: delete the schedule
    """
    from pipelines.schedule import schedule, unschedule

    if remove:
        unschedule(name, "feedback", target)
    else:
        schedule(name, cron, parameters or FeedbackParameters(archive=""), target)


def add_commands(app: App, group: Group) -> None:
    feedback.group = (group,)
    app.command(feedback)
