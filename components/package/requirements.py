"""What the serving image installs: the core and the `serve` extra, nothing of the steps."""

import importlib.metadata
import re
from pathlib import Path

DISTRIBUTION = "fbt[serve]"
LOCK = Path(__file__).parents[2] / "requirements.lock"


def serving_requirements(lock: Path = LOCK) -> str:
    """A requirements file of everything that serving needs, directly or not.

    Pins are the lock's; without a lock, the versions installed here. Hashes stay behind: BentoML
    copies every line into the manifest that it parses at each start.
    """
    names = sorted(_needed_by(DISTRIBUTION))
    locked = _entries(lock.read_text()) if lock.is_file() else {}
    return "".join(locked.get(name) or _installed(name) for name in names)


def _needed_by(root: str) -> set[str]:
    """Names of all distributions that `root` needs on this interpreter, without itself."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen, todo = set(), [Requirement(root)]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                declared = [Requirement(line) for line in importlib.metadata.requires(name) or []]
                todo += [r for r in declared if not r.marker or r.marker.evaluate({"extra": extra})]
    return {str(name) for name, _ in seen} - {canonicalize_name(Requirement(root).name)}


def _entries(lock: str) -> dict[str, str]:
    """The lock's lines per name, each a pin with its marker; several for several Pythons."""
    entries: dict[str, str] = {}
    for name, rest in re.findall(r"^([a-z0-9][a-z0-9.-]*)(==[^\\\n]*)", lock, flags=re.MULTILINE):
        entries[name] = entries.get(name, "") + f"{name}{rest.rstrip()}\n"
    return entries


def _installed(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name)}\n"
