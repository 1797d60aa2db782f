"""The first step of a run."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from components.ranking.variant_exceptions import read_exceptions
from components.registry.artifact_access import check_experiment
from components.registry.registry import get_champion_reference
from components.sources.source import fingerprint
from components.spark_checks import check_executors
from pipelines.parameters import TrainingParameters


@dataclass(frozen=True)
class RunInputs:
    fingerprint: str
    """Hash of the sources' content."""
    exceptions: str
    """Hash of the pairs, and of feedback."""
    champion: str
    """MLflow run of the version to beat, and when it was judged, or empty."""
    run_key: str
    """Hash of code, data and parameters."""


def inspect_inputs(parameters: TrainingParameters) -> RunInputs:
    """Raises SparkError, SourceError, ExceptionsError, RegistryError."""
    check_executors(os.environ)
    sources = [one for one in (parameters.orders, parameters.products) if one]
    content = " ".join(fingerprint(one) for one in sources)
    found: list[Any] = read_exceptions(parameters.variant_exceptions)
    if parameters.feedback:
        found = [found, fingerprint(parameters.feedback)]
    exceptions = _hash(found)
    check_experiment()
    key = [content, exceptions, os.environ.get("FBT_CODE_VERSION", ""), parameters.model_dump()]
    return RunInputs(content, exceptions, get_champion_reference(), _hash(key))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
