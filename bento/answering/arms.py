"""The arms of an experiment: which of them answers, and what becomes of its list."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bento.answering.answer import Answer
from bento.answering.interleaving import interleave
from bento.answering.rendering import ResponseRenderer
from bento.answering.selection import AnyRequest, Selection
from bento.answering.swaps import Swap, draw_swap, swap_neighbours
from bento.schemas.requests import RecommendRequest, SimilarRequest
from components.experiments.experiment import Arm, ArmSettings, Experiment

Find = Callable[[Selection, Any], Answer]
"""`Selection.recommend` or `Selection.similar`."""


class ServedModel:
    """A model version under the name of a deployment or an arm."""

    def __init__(
        self, model_version: str, variant: str, selection: Selection, metrics: Any = None
    ) -> None:
        self.model_version, self.variant = model_version, variant
        self.selection, self.metrics = selection, metrics
        self.renderer = ResponseRenderer(model_version, variant)


class Shown(NamedTuple):
    """An answer with all that the recommendation log needs to know of it."""

    answer: Answer
    model: ServedModel
    variant: str
    """Of the answer."""
    experiment: str | None = None
    """None where the answer does not count."""
    swap: Swap | None = None
    teams: Sequence[str] | None = None


class Answerer(ABC):
    def recommend(self, request: RecommendRequest, request_id: str) -> Shown:
        return self.answer(Selection.recommend, request, request_id)

    def similar(self, request: SimilarRequest, request_id: str) -> Shown:
        return self.answer(Selection.similar, request, request_id)

    @abstractmethod
    def answer(self, find: Find, request: AnyRequest, request_id: str) -> Shown: ...


class Deployment(Answerer):
    """Answers without an experiment of its own, and repeats the arm of the shop's."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def answer(self, find: Find, request: AnyRequest, request_id: str) -> Shown:
        model = self._model
        return Shown(find(model.selection, request), model, request.variant or model.variant)


class Arms(Answerer):
    """Answers as the session's arm, see `Experiment`."""

    def __init__(
        self,
        experiment: Experiment,
        models: Mapping[str, ServedModel],
        interleaved: ServedModel | None = None,
    ) -> None:
        """`models` by arm; `interleaved` names what two of them answer together."""
        self._experiment, self._models, self._interleaved = experiment, models, interleaved
        self._name, self._salt = experiment.name, experiment.salt or experiment.name
        self._arms = {arm.name: arm for arm in experiment.arms}
        self._control = experiment.arms[0]
        self._drafting = [arm for arm in experiment.arms if arm.holdout is None]

    def describe(self) -> dict[str, Any]:
        versions = {name: model.model_version for name, model in self._models.items()}
        return {"name": self._experiment.name, "arms": versions}

    def answer(self, find: Find, request: AnyRequest, request_id: str) -> Shown:
        if request.variant in self._arms:
            return self._show(self._arms[request.variant], find, request)
        if not request.session_id:
            return self._show(self._control, find, request)
        arm = self._experiment.assign(request.session_id)
        if arm.holdout is not None:
            return self._show(arm, find, request, self._name)
        if self._interleaved is None:
            return self._swap(self._show(arm, find, request, self._name), request, request_id)
        if request.sort != "relevance":
            # A list in the order of prices has no place for a draft.
            return self._show(self._control, find, request)
        mixed = self._mix(self._interleaved, find, request, request_id)
        return self._swap(mixed, request, request_id)

    def _show(
        self, arm: Arm, find: Find, request: AnyRequest, experiment: str | None = None
    ) -> Shown:
        answer = self._find(arm, find, request)
        return Shown(answer, self._models[arm.name], arm.name, experiment)

    def _find(self, arm: Arm, find: Find, request: AnyRequest) -> Answer:
        selection = self._models[arm.name].selection
        if arm.holdout == "empty":
            return selection.nothing(request)
        if arm.holdout == "bestsellers":
            return selection.bestsellers(request)
        return find(selection, apply_settings(request, arm.settings))

    def _mix(self, model: ServedModel, find: Find, request: AnyRequest, request_id: str) -> Shown:
        answers = [self._find(arm, find, request) for arm in self._drafting]
        names = [arm.name for arm in self._drafting]
        answer, teams = interleave(answers, names, request.k, f"{self._salt}:draft:{request_id}")
        return Shown(answer, model, model.variant, self._name, teams=teams)

    def _swap(self, shown: Shown, request: AnyRequest, request_id: str) -> Shown:
        share = self._experiment.swap_share
        if not share or request.sort != "relevance":
            return shown
        swap = draw_swap(shown.answer, share, f"{self._salt}:swap:{request_id}")
        if swap is None:
            return shown
        if not swap.is_swapped:
            return shown._replace(swap=swap)
        answer, pair = shown.answer, swap.pair
        catalogues, teams = answer.catalogues, shown.teams
        answer = answer._replace(
            shown=swap_neighbours(answer.shown, pair),
            catalogues=None if catalogues is None else swap_neighbours(catalogues, pair),
        )
        teams = None if teams is None else swap_neighbours(teams, pair)
        return shown._replace(answer=answer, swap=swap, teams=teams)


def apply_settings(request: AnyRequest, settings: ArmSettings) -> AnyRequest:
    """The request with the arm's diversity and price ratio, unless it gives its own.

    At checkout the price limit stays. Limits of kinds are the arm's Selection's.
    """
    if settings.diversity is None and settings.price_ratio is None:
        return request
    if not isinstance(request, RecommendRequest):
        return request
    given = {"diversity": settings.diversity, "price_ratio": settings.price_ratio}
    if request.context == "checkout":
        del given["price_ratio"]
    own = request.model_fields_set
    update = {name: value for name, value in given.items() if value is not None and name not in own}
    return request.model_copy(update=update) if update else request
