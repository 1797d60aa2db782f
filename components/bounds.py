"""Bounds of what a person may set and a step takes, so that both refuse the same values."""

from typing import Annotated

from pydantic import Field

ChampionMargin = Annotated[float, Field(ge=0, lt=1)]
HalfLifeDays = Annotated[float, Field(ge=0, le=36_500)]
MinCoverage = Annotated[float, Field(ge=0, le=1)]
MinProductOrders = Annotated[int, Field(ge=1, le=10_000)]
SampleShare = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
