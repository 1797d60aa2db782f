"""`fbt serve --arm`: several versions, or settings of one, behind one port."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.experiments.experiment import Arm, ArmSettings, Experiment, read_experiment
from components.model.atomic import atomic_write
from components.package.server import Server, read_service_settings, serve_bundle
from components.registry.registry import get_version
from components.registry.signing import fetch_bundle
from pipelines.home import Home
from pipelines.parameters import describe_errors
from pipelines.serve import build_store_settings

HOLDOUTS = {"none": "empty", "bestsellers": "bestsellers"}
"""Words in place of a version."""

KEYS = ("weight", *ArmSettings.model_fields)

MAX_NAME_LENGTH = 64
HASH_LENGTH = 8
"""Of the end of a name that is too long."""


def make_plan(
    arms: Sequence[str], name: str, swap_share: float, is_interleaved: bool, file: Path | None
) -> Experiment | None:
    """Of arms or of a file; None without both. Raises ValueError and RegistryError."""
    if arms and file:
        raise ValueError("serve: found --arm and --experiment, expected one; the file has the arms")
    if not arms and (name or swap_share or is_interleaved):
        raise ValueError("serve: --name, --swap-share and --interleave belong to --arm")
    if file:
        return read_plan(file)
    if not arms:
        return None
    return plan_experiment(number_versions(map(parse_arm, arms)), name, swap_share, is_interleaved)


def parse_arm(text: str) -> Arm:
    """Of `NAME=VERSION,weight=2,diversity=0.3`. Raises ValueError."""
    head, *options = text.split(",")
    name, found, version = head.partition("=")
    if not (name and found and version):
        raise ValueError(
            f"arm: found {text!r}, expected NAME=VERSION, where VERSION is a number, an alias, "
            "none (a holdout without recommendations) or bestsellers"
        )
    fields: dict[str, Any] = {"name": name}
    if version in HOLDOUTS:
        fields["holdout"] = HOLDOUTS[version]
    else:
        fields["model_version"] = version
    given = dict(map(_split_option, options))
    if "weight" in given:
        fields["weight"] = given.pop("weight")
    try:
        return Arm.model_validate({**fields, "settings": given})
    except ValidationError as error:
        raise ValueError(f"arm {name}: {describe_errors(error)}") from None


def _split_option(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if key not in KEYS or not value:
        raise ValueError(f"arm: found {text!r}, expected one of {', '.join(KEYS)} with =VALUE")
    return key, value


def plan_experiment(
    arms: Sequence[Arm], name: str, swap_share: float, is_interleaved: bool
) -> Experiment:
    """Its name tells the arms by default, so that other arms draw other sessions.

    Raises ValueError.
    """
    try:
        return Experiment(
            name=name or name_arms(arms),
            method="interleave" if is_interleaved else "split",
            arms=tuple(arms),
            swap_share=swap_share,
        )
    except ValidationError as error:
        raise ValueError(f"serve: {describe_errors(error)}") from None


def name_arms(arms: Iterable[Arm]) -> str:
    """By versions and settings; not by weights."""
    name = ".".join(map(_name_arm, arms))
    if len(name) <= MAX_NAME_LENGTH:
        return name
    end = hashlib.blake2b(name.encode(), digest_size=HASH_LENGTH // 2).hexdigest()
    return f"{name[: MAX_NAME_LENGTH - HASH_LENGTH - 1]}-{end}"


def _name_arm(arm: Arm) -> str:
    changed = arm.settings.model_dump(exclude_none=True)
    settings = [f"{name}_{value:g}" for name, value in changed.items()]
    return "-".join([arm.name, arm.model_version or arm.holdout or "", *settings])


def read_plan(path: Path) -> Experiment:
    """From a file whose arms name versions of the registry, or bundles. Raises ValueError."""
    experiment = read_experiment(path)
    if not experiment.arms[0].model_version:
        raise ValueError(
            f"serve: {path}: the control {experiment.arms[0].name} has no model_version; give the "
            "number or alias of one"
        )
    folder = path.resolve().parent
    arms = [
        arm.model_copy(update={"bundle": folder / arm.bundle}) if arm.bundle else arm
        for arm in experiment.arms
    ]
    return experiment.model_copy(update={"arms": number_versions(arms)})


def number_versions(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Numbers for aliases, which may move. Raises RegistryError."""
    return tuple(
        arm.model_copy(update={"model_version": get_version(arm.model_version).version})
        if arm.model_version and arm.bundle is None
        else arm
        for arm in arms
    )


def describe_arms(experiment: Experiment) -> str:
    arms = [
        f"{arm.name} ({arm.holdout or f'version {arm.model_version}'})" for arm in experiment.arms
    ]
    return f"experiment {experiment.name}: {', '.join(arms)}"


@contextmanager
def serve_experiment(experiment: Experiment, home: Home, port: int) -> Iterator[Server]:
    """Yields the server. The plan is kept at `plan_file`, once the server is ready.

    Raises RegistryError, ServerError, and ValueError where another plan has the name.
    """
    kept = plan_file(experiment, home)
    check_kept(experiment, kept)
    parent = home.root / "downloads"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="arms-", dir=parent) as scratch:
        found = fetch_bundles(experiment, Path(scratch))
        file = Path(scratch) / "experiment.json"
        file.write_text(found.model_dump_json())
        control = found.arms[0]
        assert control.bundle is not None
        settings = {
            "FBT_MAX_LAG_MS": "",  # the service's default
            **read_service_settings(),
            **build_store_settings(home),
            "FBT_EXPERIMENT": str(file),
        }
        with serve_bundle(
            control.bundle, control.model_version, port=port, log=home.logs / "serve.log",
            settings=settings,
        ) as server:  # fmt: skip
            kept.parent.mkdir(exist_ok=True)
            with atomic_write(kept) as aside:
                aside.write_text(experiment.model_dump_json(indent=2, exclude_defaults=True))
            yield server


def plan_file(experiment: Experiment, home: Home) -> Path:
    """For read-outs, reports, and to serve it again."""
    return home.root / "experiments" / f"{experiment.name}.json"


def check_kept(experiment: Experiment, kept: Path) -> None:
    """Two plans under one name would be read as one. Raises ValueError."""
    if not kept.exists():
        return
    before = read_experiment(kept)
    if before == experiment:
        return
    changed = [
        name for name in Experiment.model_fields
        if getattr(before, name) != getattr(experiment, name)
    ]  # fmt: skip
    raise ValueError(
        f"serve: experiment {experiment.name} was served with other {', '.join(changed)}, see "
        f"{kept}; give this one another name (--name, or `name` in its file), or remove that file "
        "if nothing of it is to be read"
    )


def fetch_bundles(experiment: Experiment, folder: Path) -> Experiment:
    """With the folder of each version's bundle; those without a version get the control's.

    Raises RegistryError.
    """
    arms = [
        arm.model_copy(update={"bundle": _fetch_bundle(arm.model_version, folder)})
        if arm.model_version and arm.bundle is None
        else arm
        for arm in experiment.arms
    ]
    return experiment.model_copy(update={"arms": tuple(arms)})


def _fetch_bundle(version: str, folder: Path) -> Path:
    bundle = folder / version
    if not bundle.exists():
        fetch_bundle(version, bundle)
    return bundle
