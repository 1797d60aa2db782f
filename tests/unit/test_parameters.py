"""Parameters: one set of names, defaults and words in the model, the pipeline and its form."""

import inspect
import re

import pytest

from components.baskets.build import BasketSettings
from components.embeddings.item2vec import TrainSettings
from components.embeddings.sweep import SweepSettings, plan_shards
from components.evaluation.gate import GateSettings
from components.orders.clean import OrderSettings
from pipelines.cli import main
from pipelines.parameters import ParameterError, TrainingParameters, parse_parameters


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
    ("parameter", "settings", "field"),
    [
        ("half_life_days", BasketSettings, "half_life_days"),
        ("min_product_orders", SweepSettings, "min_product_orders"),
        ("sweep_share", SweepSettings, "sample_share"),
        ("min_coverage", GateSettings, "min_coverage"),
        ("champion_margin", GateSettings, "champion_margin"),
        ("min_judged_grade", GateSettings, "min_judged_grade"),
    ],
)
def test_a_parameter_has_the_bounds_and_the_default_of_its_step(parameter, settings, field):
    form, step = TrainingParameters.model_fields[parameter], settings.model_fields[field]
    assert form.metadata == step.metadata
    assert form.default == step.default


@pytest.mark.parametrize("settings", [BasketSettings, GateSettings, OrderSettings, SweepSettings])
def test_no_step_refuses_a_value_that_the_form_accepts(settings):
    """Each parameter at its bounds; what a step calls alike, it takes alike."""
    for name in settings.model_fields.keys() & TrainingParameters.model_fields.keys():
        for bound in TrainingParameters.model_fields[name].metadata:
            for edge in ("ge", "le", "gt", "lt"):
                if (limit := getattr(bound, edge, None)) is not None:
                    value = limit + {"ge": 0, "le": 0, "gt": 1e-9, "lt": -1e-9}[edge]
                    parse_parameters({"orders": "lines.csv", name: value})
                    settings(**{name: value})


@pytest.mark.parametrize("shards", [1, 64])
def test_every_shard_trains_with_the_largest_seed(shards):
    largest = 2**31 - 1
    parse_parameters({"orders": "lines.csv", "seed": largest, "shards": shards})
    for shard in plan_shards(shards, shards, largest):
        TrainSettings(seed=shard["seed"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"orders": ""}, "parameter orders: found ''"),
        ({"trials": 0}, "parameter trials: found 0, expected: Input should be greater than or"),
        ({"trials": "many"}, "parameter trials: found 'many'"),
        ({"sweep_share": 1.5}, "parameter sweep_share: found 1.5"),
        ({"columns": "order=x"}, "parameter columns: found 'order=x', expected: columns: 'order'"),
        ({"non_products": "("}, "parameter non_products: found '('.*not a regular expression"),
        ({"variant_exceptions": "a"}, "parameter variant_exceptions: found 'a'.* not a pair"),
        ({"half_life_days": float("nan")}, "parameter half_life_days: found nan"),
        ({"as_of": "Christmas"}, "parameter as_of: found 'Christmas', expected: a day such as"),
        ({"champion_margin": 1}, "parameter champion_margin: found 1, expected: .* less than 1"),
        ({"popularity_discount": 1.5}, "parameter popularity_discount: found 1.5, expected: .* 1"),
        (
            {"popularity_discount": -0.1},
            "parameter popularity_discount: found -0.1, expected: .* 0",
        ),
        ({"halflife": 3}, "parameter halflife: found 3"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(wrong, said):
    with pytest.raises(ParameterError, match=said.replace("(", r"\(") if "(" in said else said):
        parse_parameters({"orders": "lines.csv", **wrong})


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(ParameterError) as error:
        parse_parameters({"orders": "x", "trials": 0, "seed": -1})
    assert len(re.findall("^parameter ", str(error.value), re.MULTILINE)) == 2


def test_the_command_line_refuses_like_the_pipeline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FBT_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main(["run", "--orders", "lines.csv", "--trials", "0"])
    assert end.value.code == 1
    assert "parameter trials: found '0'" in capsys.readouterr().err
