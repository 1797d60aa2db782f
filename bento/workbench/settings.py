"""Settings of the workbench, from environment variables, read once when it starts."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from bento.settings import PREFIX


class WorkbenchSettings(BaseSettings):
    """A field's variable is FBT_ and its name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True
    )

    service_url: str = "http://127.0.0.1:3000"
    """Of the recommendation service."""

    database_url: SecretStr | None = None
    """Of rules, judgements and audit: the service's. Default: `fbt.db` in FBT_HOME."""

    workbench_cache: Path | None = None
    """Folder for the bundles of versions. Default: `workbench` in FBT_HOME."""

    workbench_versions: int = Field(default=2, ge=2, le=10)
    """Versions that are kept open at once."""
