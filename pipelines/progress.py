"""The view of a local run in the terminal."""

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

COLOUR = re.compile(r"\x1b\[\d+m")
STARTED = re.compile(r" - INFO - Executing task '(?P<step>[\w-]+)'")
CACHED = re.compile(r" - INFO - Task '?(?P<step>[\w-]+)'? cache hit \(key=(?P<key>\w+)\)")
ENDED = re.compile(
    r" - (INFO|ERROR) - Task '(?P<step>[\w-]+)' finished with status (?P<status>\w+)"
)
MESSAGE = re.compile(r"^\s*· (?P<text>.*)")
EXCEPTION = re.compile(
    r"^\s*(?:[a-z_][\w.]*\.)?(?P<kind>[A-Z]\w*(?:Error|Failed|Interrupt)): (?P<text>.*)"
)

CHECKS = ("check-order-lines", "check-baskets")


@dataclass
class Progress:
    """Parses the output of kfp.local. Steps report progress by lines that begin with ·."""

    show: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    """Per step; 0 for a step from the cache."""
    cache_keys: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    reason: str = ""
    _started: dict[str, float] = field(default_factory=dict)

    def follow(self, lines: Iterable[str]) -> None:
        in_reason = False
        for raw in lines:
            line = COLOUR.sub("", raw.rstrip("\n"))
            in_reason = self._read_reason(line, in_reason)
            if found := STARTED.search(line):
                self._begin(found["step"])
            elif found := CACHED.search(line):
                self.seconds[found["step"]] = 0.0
                self.cache_keys[found["step"]] = found["key"]
                self.show(f"  ✓ {found['step']:<20} unchanged since an earlier run")
            elif found := ENDED.search(line):
                self._end(found["step"], found["status"] == "SUCCESS")
            elif found := MESSAGE.match(line):
                self.show(f"      {found['text']}")

    def _begin(self, step: str) -> None:
        self._started[step] = time.monotonic()
        self.show(f"  … {step}")

    def _end(self, step: str, succeeded: bool) -> None:
        took = time.monotonic() - self._started.get(step, time.monotonic())
        self.seconds[step] = self.seconds.get(step, 0.0) + took
        self.show(f"  {'✓' if succeeded else '✗'} {step:<20} {took:6.1f} s")
        if not succeeded:
            self.failed = self.failed or step

    def _read_reason(self, line: str, in_reason: bool) -> bool:
        """The message may have several lines."""
        if self.failed:
            return False
        if found := EXCEPTION.match(line):
            self.reason = found["text"]
            return True
        if in_reason and line.strip() and not line[:1].isdigit():
            self.reason += "\n" + line.strip()
            return True
        return False


def read_version(runs: Path) -> str:
    """Of the newest run; its step is never cached."""
    outputs = runs.glob("*/register/executor_output.json")
    newest = max(outputs, key=lambda file: file.stat().st_mtime)
    return str(json.loads(newest.read_text())["parameterValues"]["Output"])


def find_report(runs: Path, cache: Path, progress: Progress) -> Path | None:
    """The report of the followed run, or of the data checks that ended it."""
    if key := progress.cache_keys.get("report"):
        entry = json.loads(next(cache.glob(f"{key}*.json")).read_text())
        return Path(entry["page"]["uri"])
    step = progress.failed if progress.failed in CHECKS else "report"
    if step not in progress.seconds:
        return None
    pages = sorted(runs.glob(f"*/{step}/page"), key=lambda page: page.stat().st_mtime)
    return pages[-1] if pages else None
