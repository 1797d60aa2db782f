"""`fbt schedule` and `fbt feedback schedule`: recurring runs of this code on a cluster."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from pipelines.kfp_server import (
    KfpError,
    ensure_experiment,
    find_pipeline_id,
    kfp_client,
    recurring_runs,
)
from pipelines.parameters import Parameters
from pipelines.submit import EXPERIMENT, Target, arguments, upload_version, version_name

FINGERPRINT_PREFIX = "fbt "
"""The description of a recurring run: this prefix and a hash of its content."""


def schedule(
    name: str,
    cron: str,
    parameters: Parameters,
    target: Target,
    show: Callable[[str], None] = print,
) -> str:
    """An equal recurring run of that name is kept, a different one is replaced."""
    six_fields = _to_kfp_cron(cron)
    with kfp_client(target.endpoint, target.namespace) as client:
        pipeline, version = upload_version(client, parameters.pipeline, target)
        experiment = ensure_experiment(client, EXPERIMENT, target.namespace)
        wanted = _fingerprint(six_fields, parameters, target, version)
        found = recurring_runs(client, experiment, pipeline)
        same, other = _find_scheduled(found, name, wanted)
        if same:
            show(f"{name!r} is already scheduled: {cron}, version {version_name(target)}")
        else:
            made = client.create_recurring_run(
                experiment, name, description=wanted, cron_expression=six_fields,
                max_concurrency=1, no_catchup=True, pipeline_id=pipeline, version_id=version,
                params=arguments(parameters, target),
            )  # fmt: skip
            same = [made]
            show(f"{name!r} runs at {cron} (UTC), version {version_name(target)}")
        # After the creation: a failure in between leaves two rather than none.
        for one in [*same[1:], *other]:
            client.delete_recurring_run(one.recurring_run_id)
            show(f"removed the earlier {name!r} ({one.recurring_run_id})")
    return str(same[0].recurring_run_id)


def unschedule(
    name: str, pipeline: str, target: Target, show: Callable[[str], None] = print
) -> None:
    with kfp_client(target.endpoint, target.namespace) as client:
        experiment = ensure_experiment(client, EXPERIMENT, target.namespace)
        found = recurring_runs(client, experiment, find_pipeline_id(client, f"fbt-{pipeline}"))
        same, other = _find_scheduled(found, name, "")
        for one in [*same, *other]:
            client.delete_recurring_run(one.recurring_run_id)
            show(f"removed {name!r} ({one.recurring_run_id})")


def _find_scheduled(found: list[Any], name: str, wanted: str) -> tuple[list[Any], list[Any]]:
    named = [one for one in found if one.display_name == name]
    same = [one for one in named if one.description == wanted and one.status != "DISABLED"]
    return same, [one for one in named if one not in same]


def _fingerprint(cron: str, parameters: Parameters, target: Target, version: str) -> str:
    content = json.dumps([cron, arguments(parameters, target), version], sort_keys=True)
    return FINGERPRINT_PREFIX + hashlib.sha256(content.encode()).hexdigest()[:16]


def _to_kfp_cron(line: str) -> str:
    """KFP takes six fields; the first is the second."""
    if not re.fullmatch(r"[0-9*,/\-?A-Za-z]+( [0-9*,/\-?A-Za-z]+){4}", line.strip()):
        raise KfpError(
            f"schedule: found {line!r}, expected minute, hour, day, month and weekday, e.g. "
            "'30 2 * * *' for every night at half past two"
        )
    return f"0 {line.strip()}"
