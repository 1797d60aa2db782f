"""Parameters: one set of names, defaults and words in the model, the pipeline and its form."""

import importlib
import inspect
import pkgutil
import re

import pytest
from pydantic import BaseModel

from pipelines.cli import main
from pipelines.parameters import ParameterError, TrainingParameters, checked_parameters


def pipeline_inputs():
    from pipelines.training import training

    return training.pipeline_spec.root.input_definitions.parameters


def test_the_form_in_the_kfp_ui_says_what_the_model_says():
    inputs = pipeline_inputs()
    assert set(inputs) == set(TrainingParameters.model_fields)
    for name, field in TrainingParameters.model_fields.items():
        assert inputs[name].description == field.description, name


def test_the_pipeline_has_the_models_defaults():
    from pipelines.training import training

    signature = inspect.signature(training.pipeline_func)
    for name, field in TrainingParameters.model_fields.items():
        default = signature.parameters[name].default
        if field.is_required():
            assert default is inspect.Parameter.empty
        else:
            assert default == field.default, name


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"orders": ""}, "parameter orders: found ''"),
        ({"trials": 0}, "parameter trials: found 0, expected: Input should be greater than or"),
        ({"trials": "many"}, "parameter trials: found 'many'"),
        ({"sweep_share": 1.5}, "parameter sweep_share: found 1.5"),
        ({"columns": "order=x"}, "parameter columns: found 'order=x', expected: columns: 'order'"),
        ({"non_products": "("}, "parameter non_products: found '('.*no regular expression"),
        ({"variant_exceptions": "a"}, "parameter variant_exceptions: found 'a'.* no pair"),
        ({"half_life_days": float("nan")}, "parameter half_life_days: found nan"),
        ({"halflife": 3}, "parameter halflife: found 3"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(wrong, said):
    with pytest.raises(ParameterError, match=said.replace("(", r"\(") if "(" in said else said):
        checked_parameters({"orders": "lines.csv", **wrong})


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(ParameterError) as error:
        checked_parameters({"orders": "x", "trials": 0, "seed": -1})
    assert len(re.findall("^parameter ", str(error.value), re.MULTILINE)) == 2


def test_the_command_line_refuses_like_the_pipeline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main(["run", "--orders", "lines.csv", "--trials", "0"])
    assert end.value.code == 1
    assert "parameter trials: found '0'" in capsys.readouterr().err


CALLED_OTHERWISE = {"sample_share": "sweep_share"}
OTHER_FACTS = {
    # Trials add the number of their shard to the seed of the run.
    "TrainSettings.seed": "bounds",
    # Neighbours count old baskets less, whatever the form says.
    "NeighbourSettings.half_life_days": "default",
}


def settings_of_steps():
    """{Class.field: (parameter, field)} of every model below components/ that takes a parameter."""
    import components
    import data_checks

    for package in (components, data_checks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return {
        f"{model.__name__}.{name}": (CALLED_OTHERWISE.get(name, name), field)
        for model in BaseModel.__subclasses__()
        if model.__module__.startswith(("components.", "data_checks."))
        for name, field in model.model_fields.items()
        if CALLED_OTHERWISE.get(name, name) in TrainingParameters.model_fields
    }


def test_steps_take_what_the_form_takes():
    found = settings_of_steps()
    assert {"GateSettings.champion_margin", "BasketSettings.half_life_days"} <= set(found)
    for where, (parameter, field) in found.items():
        ours = TrainingParameters.model_fields[parameter]
        if OTHER_FACTS.get(where) != "bounds":
            assert field.metadata == ours.metadata, where
        if OTHER_FACTS.get(where) != "default" and not ours.is_required():
            assert field.default == ours.default, where


def test_a_margin_that_the_gate_cannot_take_is_refused_at_once():
    with pytest.raises(ParameterError, match=r"parameter champion_margin: found 1, expected"):
        checked_parameters({"orders": "lines.csv", "champion_margin": 1})
