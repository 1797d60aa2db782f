"""FBT_HOME: the folder of all files that local runs write."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bento", "components", "data_checks", "pipelines")

OFFLINE = {
    # Libraries that report usage statistics by default.
    "BENTOML_DO_NOT_TRACK": "True",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@dataclass(frozen=True)
class Home:
    root: Path

    @property
    def runs(self) -> Path:
        """RUN/STEP/"""
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        """Results of finished steps, by the hash of their inputs."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def bentos(self) -> Path:
        return self.root / "bentoml"

    @property
    def database_uri(self) -> str:
        return f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        return str(self.mlflow / "artifacts")

    def environment(self) -> dict[str, str]:
        """Variables for MLflow and child processes; a MLFLOW_TRACKING_URI that is set wins."""
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI", self.database_uri)
        variables = {
            **OFFLINE,
            "FBT_HOME": str(self.root),
            "FBT_CODE_VERSION": code_version(),
            "MLFLOW_TRACKING_URI": tracking_uri,
        }
        if tracking_uri == self.database_uri:
            variables["MLFLOW_ARTIFACT_ROOT"] = self.artifact_root
        return variables


def open_home() -> Home:
    """The folder that FBT_HOME names (default `.fbt`), with its subfolders."""
    home = Home(Path(os.environ.get("FBT_HOME", ".fbt")).absolute())
    for folder in (home.runs, home.cache, home.logs, home.mlflow, home.bentos):
        folder.mkdir(parents=True, exist_ok=True)
    return home


def code_version() -> str:
    """A hash of the code: part of every cache key, as KFP's own keys ignore imported code."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.suffix in (".py", ".html", ".css", ".yaml") and file.is_file():
                digest.update(f"{file.relative_to(root)}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
