"""FBT_HOME: the folder of all files that local runs write."""

import hashlib
import os
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


class Home:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        """RUN/STEP/"""
        self.cache = root / "cache"
        """Results of finished steps, by the hash of their inputs."""
        self.logs = root / "logs"
        self.mlflow = root / "mlflow"
        self.bentos = root / "bentoml"
        self.database_uri = f"sqlite:///{self.mlflow / 'mlflow.db'}"
        self.artifact_root = str(self.mlflow / "artifacts")

    def environment(self) -> dict[str, str]:
        """A MLFLOW_TRACKING_URI that is set wins."""
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
    """Creates the folder FBT_HOME (default `.fbt`) and its subfolders."""
    home = Home(Path(os.environ.get("FBT_HOME", ".fbt")).absolute())
    for folder in (home.runs, home.cache, home.logs, home.mlflow, home.bentos):
        folder.mkdir(parents=True, exist_ok=True)
    return home


def code_version() -> str:
    """Part of every cache key, as KFP's own keys ignore imported code."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.suffix in (".py", ".html", ".css", ".yaml", ".json") and file.is_file():
                digest.update(f"{file.relative_to(root)}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
