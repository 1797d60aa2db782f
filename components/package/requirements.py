"""The packages that a Bento installs."""

import importlib.metadata

DISTRIBUTION = "fbt[serve]"


def list_serving_requirements() -> str:
    """The serving extra and its dependencies, as installed here.

    Without hashes: BentoML copies every line into the manifest that it parses at each start.
    """
    names = sorted(_find_dependencies(DISTRIBUTION))
    return "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in names)


def _find_dependencies(root: str) -> set[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[tuple[str, str]] = set()
    todo = [Requirement(root)]
    while todo:
        needed = todo.pop()
        name = canonicalize_name(needed.name)
        for extra in {"", *needed.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            declared = [Requirement(line) for line in importlib.metadata.requires(name) or []]
            todo += [r for r in declared if not r.marker or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen} - {canonicalize_name(Requirement(root).name)}
