"""Health: what serves where, how well, and moves of the champion."""

from collections.abc import Callable
from datetime import datetime

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.workbench.access.person import Role
from bento.workbench.context import get_workbench, keep
from bento.workbench.errors import Conflict, NotFound
from bento.workbench.health.databases import compare_database
from bento.workbench.health.links import Links
from bento.workbench.health.releases import (
    Release,
    go_back,
    read_releases,
    release,
)
from bento.workbench.health.state import Health
from bento.workbench.pages import TEMPLATES, flash, render
from bento.workbench.parts import Missing
from bento.workbench.routing import Views
from bento.workbench.versions import ask_registry
from components.registry.promotion import Move, find_objection
from components.registry.registry import CHECKS_TAG

VIEWS = Views()
N_SHOWN = 8


@VIEWS.get("/health")
async def show(request: Request) -> Response:
    state = await get_health(request).read()
    releases = None if isinstance(state.releases, Missing) else state.releases
    versions = releases.versions if releases else []
    return render(
        request,
        "health/page.html",
        state=state,
        releases=releases,
        versions=versions if "all" in request.query_params else versions[:N_SHOWN],
        n_hidden=0 if "all" in request.query_params else max(0, len(versions) - N_SHOWN),
        links=Links(get_workbench(request).settings),
        compare_database=compare_database,
        checks_tag=CHECKS_TAG,
    )


@VIEWS.get("/health/promote/{version}", Role.releaser)
async def ask_promotion(request: Request) -> Response:
    releases = await ask_registry(read_releases)
    version = releases.find(request.path_params["version"])
    if version is None:
        known = ", ".join(one.version for one in releases.versions) or "none"
        raise NotFound(f"there is no version {request.path_params['version']} (versions: {known})")
    return render(
        request,
        "health/confirm.html",
        action="promote",
        version=version,
        releases=releases,
        objection=find_objection(version),
    )


@VIEWS.get("/health/rollback", Role.releaser)
async def ask_rollback(request: Request) -> Response:
    releases = await ask_registry(read_releases)
    version = releases.find(releases.previous)
    if version is None:
        raise Conflict(
            f"there was no champion before version {releases.champion or '(none)'} to return to; "
            "promote one"
        )
    return render(
        request, "health/confirm.html", action="rollback", version=version, releases=releases
    )


@VIEWS.post("/health/promote", Role.releaser)
async def promote(request: Request) -> Response:
    return await move(request, release)


@VIEWS.post("/health/rollback", Role.releaser)
async def roll_back(request: Request) -> Response:
    return await move(request, go_back)


async def move(request: Request, act: Callable[[Release, str], Move]) -> Response:
    asked, by = read_form(await request.form()), request.state.person.name
    health = get_health(request)
    # One at a time: the check of the champion and the move belong together.
    async with health.moving:
        made = await ask_registry(lambda: act(asked, by))
    health.releases.forget()
    flash(request, f"Version {made.to} is champion now; it was {made.came_from or 'none'}.")
    return RedirectResponse("/health#history", 303)


def read_form(form: FormData) -> Release:
    given = {name: str(form.get(name, "")) for name in ("version", "typed", "champion")}
    return Release(**given, force=form.get("force") == "yes")


def get_health(request: Request) -> Health:
    return keep(request, Health, lambda: Health(get_workbench(request)))


def format_moment(iso: str) -> str:
    """2026-11-29 22:10 UTC."""
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return iso


TEMPLATES.env.filters["moment"] = format_moment
TEMPLATES.env.tests["missing"] = lambda found: isinstance(found, Missing)
