"""FBT_HOME: the one folder that everything a local run writes lies under."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("bento", "components", "data_checks", "pipelines")

OFFLINE = {
    # Every part that would phone home has a switch; these are all of them.
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
    """Where things lie below FBT_HOME."""

    root: Path

    @property
    def runs(self) -> Path:
        """One folder a pipeline run, one below it a step."""
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        """What finished steps left, by the hash of all that went in."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        """Full output of runs and servers."""
        return self.root / "logs"

    @property
    def mlflow(self) -> Path:
        """The registry's database and artefacts."""
        return self.root / "mlflow"

    @property
    def bentos(self) -> Path:
        """The Bento store that `fbt serve` serves from."""
        return self.root / "bentoml"

    @property
    def database_uri(self) -> str:
        """MLflow's SQLite database, as an MLflow tracking address."""
        return f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        """Where artefacts lie that belong to our own database."""
        return str(self.mlflow / "artifacts")

    def environment(self) -> dict[str, str]:
        """What child processes, and MLflow in this one, are told.

        A tracking address that is set already wins, and artefacts then go where it belongs to.
        """
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI", self.database_uri)
        made = {
            **OFFLINE,
            "FBT_HOME": str(self.root),
            "FBT_CODE_VERSION": code_version(),
            "MLFLOW_TRACKING_URI": tracking_uri,
        }
        if tracking_uri == self.database_uri:
            made["MLFLOW_ARTIFACT_ROOT"] = self.artifact_root
        return made


def open_home() -> Home:
    """The folder FBT_HOME names (default `.fbt`), made when missing."""
    home = Home(Path(os.environ.get("FBT_HOME", ".fbt")).absolute())
    for folder in (home.runs, home.cache, home.logs, home.mlflow, home.bentos):
        folder.mkdir(parents=True, exist_ok=True)
    return home


def code_version() -> str:
    """A hash of all our code: part of every cache key, for KFP's keys do not see imported code."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.suffix in (".py", ".html", ".css", ".yaml") and file.is_file():
                digest.update(f"{file.relative_to(root)}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
