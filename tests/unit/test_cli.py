"""The command line: groups, options from the models, exit codes."""

import pytest

from pipelines.cli import main
from pipelines.parameters import TrainingParameters
from pipelines.placement import Placement
from pipelines.submit import Target


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(tmp_path / "home"))


def test_help_lists_all_commands_by_group_and_writes_nothing(tmp_path, capsys):
    main(["--help"])
    words = capsys.readouterr().out.split()
    groups = ("Train", "Models", "Serve", "Shoppers", "Cluster", "Measure")
    places = [words.index(group) for group in groups]
    assert places == sorted(places)
    commands = (
        "run demo compile submit wait schedule images cluster doctor models promote rollback sign "
        "serve export mlflow bench judge events report experiment simulate feedback "
        "--install-completion"
    )
    assert set(commands.split()) <= set(words)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("command", "model"),
    [
        ("run", TrainingParameters),
        ("submit", TrainingParameters),
        ("schedule", TrainingParameters),
        ("schedule", Target),
        ("submit", Target),
        ("compile", Placement),
    ],
)
def test_options_are_the_fields_of_the_model(command, model, capsys):
    main([command, "--help"])
    words = capsys.readouterr().out.split()
    assert {f"--{name.replace('_', '-')}" for name in model.model_fields} <= set(words)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["fly"], 'Unknown command "fly"'),
        (["run"], "--orders"),
        (["run", "--orders", "x.csv", "--trails", "3"], "--trails"),
        (["promote"], "VERSION"),
        (["serve", "--port", "x"], "--port"),
        (["export", "--to", "x.parquet"], "Exactly 1 of {--bundle, --version}"),
        (["export", "--to", "x", "--bundle", "y", "--version", "1"], "Exactly 1 of"),
    ],
)
def test_a_wrong_usage_ends_with_2(arguments, error, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert error in capsys.readouterr().err


def test_a_wrong_value_ends_with_1(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compile", "--spark-executors", "4"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("fbt: executors need spark_claim")
