"""The first step of a run: refuse wrong parameters, look at the input, find the champion."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from components.orders.source import fingerprint
from components.ranking.variant_exceptions import read_exceptions
from components.registry.artifact_access import check_experiment
from components.registry.registry import get_champion_run_id
from pipelines.parameters import TrainingParameters


@dataclass(frozen=True)
class RunInputs:
    """What a run must know before its first real step."""

    fingerprint: str
    """Changes with the content of the sources, so that caches see it."""
    exceptions: str
    """Changes with the pairs of variants that are excepted."""
    champion: str
    """The MLflow run of the version to beat, or an empty text."""
    run_key: str
    """The same for runs of the same code on the same data with the same parameters."""


def inspect_inputs(parameters: TrainingParameters) -> RunInputs:
    """Raises SourceError for a source that is not there, ExceptionsError for a file that lists no
    pairs, RegistryError without an MLflow server, or with one that could not read the version.
    """
    sources = [one for one in (parameters.orders, parameters.products) if one]
    content = " ".join(fingerprint(one) for one in sources)
    exceptions = _hash(read_exceptions(parameters.variant_exceptions))
    check_experiment()
    key = [content, exceptions, os.environ.get("FBT_CODE_VERSION", ""), parameters.model_dump()]
    return RunInputs(content, exceptions, get_champion_run_id(), _hash(key))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
