"""An MLflow server on the database of FBT_HOME."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from components.package.server import Server, find_free_port, run_server
from pipelines.home import Home


@contextmanager
def mlflow_server(home: Home, port: int = 0) -> Iterator[Server]:
    """Port 0 picks a free port."""
    port = find_free_port(port=port)
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", home.database_uri,
        "--default-artifact-root", home.artifact_root, "--no-serve-artifacts",
    ]  # fmt: skip
    with run_server(
        command,
        f"http://127.0.0.1:{port}",
        ready="/health",
        env={**os.environ, **home.environment()},
        log=home.logs / "mlflow.log",
        cwd=home.mlflow,
        timeout_s=120,
    ) as server:
        yield server
