"""What an image installs: the core and the extras of its place, nothing of the others.

A Bento asks the packages installed here (`list_serving_requirements`). The images of `k8s/images/` are
built where nothing is installed yet, so they ask the lock:
`python -m components.package.requirements --extra serve`.
"""

import argparse
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

DISTRIBUTION = "fbt[serve]"
LOCK = Path(__file__).parents[2] / "requirements.lock"
PROJECT = LOCK.with_name("pyproject.toml")


class LockError(ValueError):
    """The lock does not cover what is asked of it; the message says how to make it anew."""


def main() -> None:
    """Print a part of the lock; exits with a message where the lock does not cover it."""
    parser = argparse.ArgumentParser(description="Print the part of the lock that extras need.")
    parser.add_argument("--extra", action="append", default=[], help="of pyproject.toml; repeat")
    parser.add_argument("--only", action="append", default=[], help="this package and its needs")
    parser.add_argument("--without", action="append", default=[], help="leave this package out")
    options = parser.parse_args()
    roots = {bare_name(one) for one in options.only} or declared(options.extra)
    try:
        print(locked_requirements(roots, options.without), end="")
    except LockError as error:
        sys.exit(str(error))


def declared(extras: Iterable[str], project: Path = PROJECT) -> set[str]:
    """Names that the core and these extras declare. Raises LockError for an unknown extra."""
    found = tomllib.loads(project.read_text())["project"]
    optional = found["optional-dependencies"]
    if unknown := sorted(set(extras) - set(optional)):
        raise LockError(f"pyproject.toml: no extra {unknown}; expected some of {sorted(optional)}")
    lines = [*found["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {bare_name(line) for line in lines}


def locked_requirements(
    roots: Iterable[str], without: Iterable[str] = (), lock: Path = LOCK
) -> str:
    """The lock's entries, hashes included, of these packages and of all that they need.

    The lock says of every package what needs it, for any extra: a package that only an extra needs
    which an image leaves out may come along. Raises LockError for a root that is not in the lock.
    """
    blocks = _blocks(lock.read_text())
    if missing := sorted(set(roots) - set(blocks)):
        raise LockError(
            f"{lock.name}: {missing} are not in it; make it anew as CONTRIBUTING.md says"
        )
    needed = set(roots)
    while more := {n for n, block in blocks.items() if _needed_by_whom(block) & needed} - needed:
        needed |= more
    return "".join(blocks[name] for name in sorted(needed - set(without)))


def bare_name(requirement: str) -> str:
    """`name` of `Name[extra]>=1`."""
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")


def _blocks(lock: str) -> dict[str, str]:
    """The lock's text per package; several entries of one package, for several Pythons, in one."""
    blocks: dict[str, str] = {}
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        name = block.partition("==")[0]
        blocks[name] = blocks.get(name, "") + block
    return blocks


def _needed_by_whom(block: str) -> set[str]:
    return set(re.findall(r"^ +#(?: via)? +([a-z0-9.-]+)$", block, flags=re.MULTILINE))


def list_serving_requirements(lock: Path = LOCK) -> str:
    """A requirements file of everything that serving needs, directly or not.

    Pins are the lock's; without a lock, the versions installed here. Hashes stay behind: BentoML
    copies every line into the manifest that it parses at each start.
    """
    names = sorted(_find_dependencies(DISTRIBUTION))
    locked = _parse_pins(lock.read_text()) if lock.is_file() else {}
    return "".join(locked.get(name) or _installed_pin(name) for name in names)


def _find_dependencies(root: str) -> set[str]:
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


def _parse_pins(lock: str) -> dict[str, str]:
    """The lock's lines per name, each a pin with its marker; several for several Pythons."""
    entries: dict[str, str] = {}
    for name, rest in re.findall(r"^([a-z0-9][a-z0-9.-]*)(==[^\\\n]*)", lock, flags=re.MULTILINE):
        entries[name] = entries.get(name, "") + f"{name}{rest.rstrip()}\n"
    return entries


def _installed_pin(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name)}\n"


if __name__ == "__main__":
    main()
