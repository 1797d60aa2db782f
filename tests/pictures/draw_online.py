"""Draws the README's picture of `fbt report online`: four weeks of simulated shoppers.

.venv/bin/python -m tests.pictures.draw_online
"""

import tempfile
from datetime import date
from pathlib import Path

from components.experiments.experiment import Arm, Experiment
from components.online.events import open_events
from components.report.online import write_online_report
from components.report.online_chapters import collect_page
from components.simulation.behaviour import Behaviour
from components.simulation.market import make_market
from components.simulation.tables import write_trial
from components.simulation.trial import list_companions, run_trial
from components.simulation.visits import plan_visits
from tests.pictures.draw import HERE, take_screenshot

SIZE = (1200, 985)
ARMS = (
    Arm(name="version7", model_version="7"),
    Arm(name="version8", model_version="8"),
    Arm(name="nobody", weight=0.2, holdout="empty"),
)


def main() -> None:
    market, behaviour = make_market(200, 20, seed=1), Behaviour()
    lists = {
        "version7": list_companions(market, 6, noise=0.12, seed=2),
        "version8": list_companions(market, 6),
    }
    experiment = Experiment(name="spring", arms=ARMS, swap_share=0.3)
    visits = plan_visits(market, behaviour, 20_000, seed=5, start=date(2026, 3, 2))
    trial = run_trial(market, behaviour, experiment, lists, visits)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_trial(market, behaviour, trial, root)
        with open_events(root) as online:
            write_online_report(collect_page(online, [experiment], []), root / "online.html")
        take_screenshot(root / "online.html", HERE / "online.png", SIZE)


if __name__ == "__main__":
    main()
