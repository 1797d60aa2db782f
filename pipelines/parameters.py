"""The parameters of a training run."""

import codecs
import inspect
import re
import shlex
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from components.baskets.build import HalfLifeDays
from components.embeddings.sweep import MinProductOrders, SampleShare
from components.evaluation.gate import ChampionMargin, MinCoverage, MinJudgedGrade
from components.model.kind_limits import MaxOwnKind, MaxSameKind
from components.model.manifest import PopularityDiscount
from components.orders.reasons import NON_PRODUCTS
from components.ranking.variant_exceptions import is_file, parse_pairs
from components.sources.columns import parse_columns
from components.sources.time_formats import Timezone


class ParameterError(ValueError):
    """The message names parameters, values and expectations."""


class TrainingParameters(BaseModel):
    """The descriptions appear in the CLI's help and in the form of the KFP UI."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pipeline: ClassVar[str] = "training"

    orders: str = Field(
        min_length=1,
        description="Parquet or CSV file, folder, glob, http(s)/s3:// address, or jdbc:URL|QUERY",
    )
    products: str = Field(
        default="", description="Product table, in the same formats; empty = from the order lines"
    )
    columns: str = Field(
        default="", description="Column names of the shop: order_id=Invoice,product_id=Code"
    )
    timezone: Timezone = Field(
        default="UTC",
        description="Zone of the shop's clocks and days, as Europe/Istanbul",
    )
    ts_format: str = Field(
        default="",
        description="strptime pattern of timestamps, as %d/%m/%Y %H:%M; empty = by evidence",
    )
    decimal: str = Field(
        default="", description="Decimal mark of numbers, . or , (empty = by evidence)"
    )
    encoding: str = Field(
        default="", description="Encoding of text files, as cp1254; empty = by evidence"
    )
    non_products: str = Field(
        default=NON_PRODUCTS,
        description="Regular expression for ids, names or categories that are not products",
    )
    half_life_days: HalfLifeDays = Field(
        default=0.0,
        description="Age in days at which an order counts half; 0 = off",
    )
    min_product_orders: MinProductOrders = Field(
        default=5, description="Least number of orders of a product in the catalogue"
    )
    variant_exceptions: str = Field(
        default="",
        description="Variants to recommend nevertheless: A1+A2, B7+B9, or a file of such pairs",
    )
    feedback: str = Field(
        default="",
        description="Examples of the feedback pipeline, feedback.parquet of its archive; "
        "empty = off",
    )
    popularity_discount: PopularityDiscount = Field(
        default=1.0,
        description="0 = what is bought most with a product, 1 = only what it adds to a basket",
    )
    max_own_kind: MaxOwnKind = Field(
        default=1,
        description="Most products of the asked kind among the first five; -1 = no limit",
    )
    max_same_kind: MaxSameKind = Field(
        default=2, description="Most products of any kind among the first five; -1 = no limit"
    )
    trials: int = Field(default=8, ge=1, le=1000, description="Hyper-parameter settings to try")
    shards: int = Field(default=2, ge=1, le=64, description="Processes or pods for the trials")
    sweep_share: SampleShare = Field(
        default=0.1, description="Share of the training baskets for the trials"
    )
    min_coverage: MinCoverage = Field(
        default=0.05,
        description="Gate: least share of the catalogue that is recommended",
    )  # fmt: skip
    champion_margin: ChampionMargin = Field(
        default=0.02,
        description="Gate: tolerated loss of NDCG@10 and its excess, as a share of the champion's",
    )  # fmt: skip
    min_judged_grade: MinJudgedGrade = Field(
        default=0.0,
        description="Gate: least mean grade (0 to 3) of lists that people graded; 0 = no rule",
    )
    as_of: str = Field(
        default="",
        description="Day of the seasons in the report, as 2026-12-01; empty = the newest order's",
    )
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="Seed of all random numbers")

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: str) -> str:
        parse_columns(value)
        return value

    @field_validator("decimal")
    @classmethod
    def _check_decimal(cls, value: str) -> str:
        if value not in ("", ".", ","):
            raise ValueError("a point or a comma, or empty for what the values show")
        return value

    @field_validator("as_of")
    @classmethod
    def _check_day(cls, value: str) -> str:
        try:
            return value and date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError("a day such as 2026-12-01, or empty") from None

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value or "utf-8")
        except LookupError:
            raise ValueError("an encoding that Python knows, such as utf-8 or cp1254") from None
        return value

    @field_validator("variant_exceptions")
    @classmethod
    def _check_pairs(cls, value: str) -> str:
        if not is_file(value):
            parse_pairs(value)
        return value

    @field_validator("non_products")
    @classmethod
    def _check_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


def parse_parameters(values: dict[str, Any]) -> TrainingParameters:
    try:
        return TrainingParameters(**values)
    except ValidationError as error:
        raise ParameterError(describe_errors(error)) from None


READING = ("orders", "products", "columns", "timezone", "ts_format", "decimal", "encoding")
"""Parameters that decide how sources are read."""


def format_command(name: str, values: Mapping[str, Any]) -> str:
    """`fbt NAME` with the parameters of reading, for a shell."""
    fields = TrainingParameters.model_fields
    words = ["fbt", name, *([str(values["orders"])] if name == "inspect" else [])]
    for one in READING[1:] if name == "inspect" else READING:
        if (value := values.get(one, "")) and value != fields[one].default:
            words += [f"--{one.replace('_', '-')}", str(value)]
    return shlex.join(words)


def suggest_inspect(parameters: TrainingParameters) -> str:
    return f"See how it is read: {format_command('inspect', parameters.model_dump())}"


def describe_errors(error: ValidationError) -> str:
    """A line for each wrong value."""
    lines = []
    for one in error.errors():
        expected = one["msg"].removeprefix("Value error, ")
        name = ".".join(map(str, one["loc"]))
        lines.append(
            f"parameter {name}: found {one['input']!r}, expected: {expected}" if name else expected
        )
    return "\n".join(lines)


class FeedbackParameters(BaseModel):
    """As TrainingParameters, of the feedback pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pipeline: ClassVar[str] = "feedback"

    archive: str = Field(
        min_length=1, description="Folder of compacted events; in a cluster, of the events claim"
    )
    products: str = Field(
        default="", description="Product table of a run, for categories and coverage"
    )
    order_lines: str = Field(
        default="", description="Order lines of a run, whose orders need no pixel"
    )
    experiments: str = Field(
        default="", description="JSON files of experiments to read, separated by commas"
    )
    days: float = Field(
        default=56.0, ge=0, le=36_500, description="Newest days of the log that count; 0 = all"
    )
    window_h: float = Field(
        default=24.0, gt=0, le=24 * 90,
        description="Hours after a recommendation within which carts and orders count for it",
    )  # fmt: skip
    half_life_days: float = Field(
        default=28.0, gt=0, le=36_500, description="Age in days at which an example counts half"
    )
    season_share: float = Field(
        default=0.25, ge=0, le=1,
        description="Weight of an example of the same days in an earlier year; 0 = off",
    )  # fmt: skip
    keep_days: float = Field(
        default=7.0, ge=1, le=36_500, description="Days for which the sink keeps what was moved"
    )
    spark: bool = Field(
        default=False, description="Compact on Spark's executors, for sinks of Kafka"
    )


Parameters = TrainingParameters | FeedbackParameters


def document_parameters(
    model: type[BaseModel],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Append the descriptions to the docstring, from which kfp makes its form."""

    def document(pipeline: Callable[..., Any]) -> Callable[..., Any]:
        lines = [f"    {name}: {field.description}" for name, field in model.model_fields.items()]
        pipeline.__doc__ = "\n".join([inspect.getdoc(pipeline) or "", "", "Args:", *lines])
        return pipeline

    return document
