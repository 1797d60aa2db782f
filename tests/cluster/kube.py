"""What tests of a real cluster ask of it: kubectl, a Service's address, patience."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from components.package.server import find_free_port
from tests.manifests.conftest import kubectl

T = TypeVar("T")
UNPULLABLE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")


def run(*words: str, stdin: str = "", timeout_s: float = 120) -> str:
    """What kubectl says."""
    done = subprocess.run(
        [kubectl(), *words], input=stdin, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(one: dict) -> None:
    run("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", **one}))


def config_map(namespace: str, name: str, file: Path) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {file.name: file.read_text()},
    }


def list_pods(namespace: str) -> list[dict]:
    return list(json.loads(run("-n", namespace, "get", "pods", "-o", "json"))["items"])


def find_missing_images(pods: list[dict]) -> set[str]:
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = [one for pod in pods for kind in kinds for one in pod["status"].get(kind, [])]
    waiting = ((one["image"], one["state"].get("waiting", {}).get("reason")) for one in statuses)
    return {image for image, reason in waiting if reason in UNPULLABLE}


@contextlib.contextmanager
def forward_port(namespace: str, service: str, port: int, local: int = 0) -> Iterator[str]:
    """The address of a Service from here."""
    local = local or find_free_port()
    command = [kubectl(), "-n", namespace, "port-forward", f"svc/{service}", f"{local}:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as forward:
        try:
            wait_until(lambda: is_open(local), 60)
            yield f"http://127.0.0.1:{local}"
        finally:
            forward.terminate()


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(
    condition: Callable[[], T],
    within_s: float,
    every_s: float = 0.5,
    describe: Callable[[], Any] = lambda: "",
) -> T:
    """What the condition is once it holds."""
    until = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {within_s:.0f} s: {describe()}"
        time.sleep(every_s)
    return found
