"""Opens the bundles of an experiment's arms, and checks the experiment before workers start."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bento.answering.arms import Arms, ServedModel
from bento.answering.awkward_settings import AwkwardSettings
from bento.answering.catalogue import Catalogue
from bento.answering.interleaving import INTERLEAVED
from bento.answering.resolved_rules import ResolvedRules
from bento.answering.rules import RuleSet
from bento.answering.selection import Selection
from bento.schemas.catalogue import ChangedProduct
from bento.settings import Settings, SettingsError, variable_name
from components.experiments.experiment import Arm, ArmSettings, Experiment, read_experiment
from components.model.bundle import Bundle, read_bundle
from components.model.kind_limits import KindLimits
from components.model.manifest import MANIFEST_FILE
from components.model.recommender import Recommender

MetricsMaker = Callable[[str, str, bool], object]
"""Of model version, variant, and whether canaries and alerts judge the answers."""


def load_experiment(settings: Settings) -> Experiment | None:
    """Folders of bundles are relative to the file. Raises SettingsError."""
    if settings.experiment is None:
        return None
    try:
        experiment = read_experiment(settings.experiment)
    except ValueError as error:
        raise SettingsError(f"{variable_name('experiment')}: {error}") from None
    if settings.events_url is not None and settings.events_url.get_secret_value() == "off":
        raise SettingsError(
            f"{variable_name('experiment')}: found {variable_name('events_url')} off, expected a "
            "store: without the recommendation log, nobody can read the experiment"
        )
    folder = settings.experiment.resolve().parent
    arms = [
        arm if arm.bundle is None else arm.model_copy(update={"bundle": folder / arm.bundle})
        for arm in experiment.arms
    ]
    for arm in arms:
        _check_arm(arm, settings, experiment.method == "interleave")
    return experiment.model_copy(update={"arms": tuple(arms)})


def _check_arm(arm: Arm, settings: Settings, is_interleaved: bool) -> None:
    place = f"{variable_name('experiment')}: arm {arm.name}"
    if arm.bundle is not None and not (arm.bundle / MANIFEST_FILE).is_file():
        raise SettingsError(f"{place}: no bundle in {arm.bundle}; give the folder of bundle.json")
    if arm.bundle is not None and not arm.model_version:
        raise SettingsError(f"{place}: a bundle of its own takes a model_version, to be told apart")
    own = settings.model_version
    if arm.bundle is None and arm.model_version and own and arm.model_version != own:
        raise SettingsError(
            f"{place}: found model_version {arm.model_version} without a bundle, but the service "
            f"serves {own}; name the folder of its bundle"
        )
    if is_interleaved and arm.name == INTERLEAVED:
        raise SettingsError(f"{place}: the name belongs to interleaved answers; take another one")


def list_bundles(experiment: Experiment | None) -> list[Path]:
    """Those that are not the service's."""
    arms = () if experiment is None else experiment.arms
    return list(dict.fromkeys(arm.bundle for arm in arms if arm.bundle is not None))


class OpenBundles:
    """Selections over bundles, each opened once; they share catalogue changes and rules."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: dict[Path, tuple[Recommender, Catalogue]] = {}
        self._selections: list[Selection] = []

    def open(self, path: Path) -> Bundle:
        path = path.resolve()
        if path not in self._opened:
            bundle = read_bundle(path, verify=False, products=False)
            catalogue = Catalogue(bundle.records, bundle.facets, bundle.sensitive)
            self._opened[path] = Recommender(bundle), catalogue
        return self._opened[path][0].bundle

    def select(self, path: Path, arm: Arm | None = None) -> Selection:
        """With the limits of kinds of model, deployment and arm, the last one given."""
        limits, settings = self.open(path).manifest.kind_limits, self._settings
        limits = limits.override(settings.max_own_kind, settings.max_same_kind)
        own = ArmSettings() if arm is None else arm.settings
        limits = limits.override(own.max_own_kind, own.max_same_kind)
        # A rule sets what a deployment may have, not what tells arms apart.
        fixed = [name for name in KindLimits._fields if getattr(own, name) is not None]
        recommender, catalogue = self._opened[path.resolve()]
        selection = Selection(recommender, catalogue, limits, fixed)
        selection.awkward = AwkwardSettings(settings.sensitive_pairs, settings.as_of)
        self._selections.append(selection)
        return selection

    @property
    def selections(self) -> Sequence[Selection]:
        return self._selections

    def apply_products(self, changes: Sequence[ChangedProduct]) -> None:
        changed: dict[int, ResolvedRules] = {}
        for selection in self._selections:
            old = selection.catalogue
            if id(old) not in changed:
                changed[id(old)] = resolve(selection.rules, old.with_changes(changes))
            selection.adopt(changed[id(old)])

    def apply_rules(self, rules: RuleSet) -> None:
        changed: dict[int, ResolvedRules] = {}
        for selection in self._selections:
            catalogue = selection.catalogue
            if id(catalogue) not in changed:
                changed[id(catalogue)] = resolve(rules, catalogue)
            selection.adopt(changed[id(catalogue)])


def resolve(rules: RuleSet, catalogue: Catalogue) -> ResolvedRules:
    """Ready for use: no request has to wait for it."""
    resolved = ResolvedRules(rules, catalogue)
    resolved.find_global(datetime.now(UTC))
    return resolved


def build_arms(
    experiment: Experiment,
    bundle: Path,
    model_version: str,
    bundles: OpenBundles,
    create_metrics: MetricsMaker,
) -> Arms:
    """`bundle` and `model_version` are those of arms that do not name their own."""

    def serve(arm: Arm) -> ServedModel:
        version = arm.model_version or model_version
        selection = bundles.select(arm.bundle or bundle, arm)
        metrics = create_metrics(version, arm.name, arm.holdout is None)
        return ServedModel(version, arm.name, selection, metrics)

    models = {arm.name: serve(arm) for arm in experiment.arms}
    if experiment.method == "split":
        return Arms(experiment, models)
    drafting = [models[arm.name] for arm in experiment.arms if arm.holdout is None]
    version = "+".join(_distinct(one.model_version for one in drafting))
    metrics = create_metrics(version, INTERLEAVED, True)
    mixed = ServedModel(version, INTERLEAVED, drafting[0].selection, metrics)
    return Arms(experiment, models, mixed)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
