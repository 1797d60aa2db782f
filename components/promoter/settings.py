"""Settings of the promoter."""

import os
import socket

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Settings(BaseModel):
    """From variables FBT_* and POD_NAME."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="fbt", min_length=1)
    deployment: str = Field(default="fbt", min_length=1)
    rollout: str = Field(default="fbt", min_length=1)
    """It may be missing."""
    identity: str = Field(min_length=1)
    """Of two promoters with one name, both would act."""
    lease: str = "fbt-promoter"
    lease_s: float = Field(default=15.0, ge=1, le=300)
    poll_s: float = Field(default=15.0, gt=0, le=600)
    host: str = "0.0.0.0"
    port: int = Field(default=8080, ge=0, le=65535)
    webhook_secret: SecretStr = SecretStr("")
    """Of MLflow's webhooks; without one the promoter only polls."""
    webhook_url: str = ""
    """Address of this promoter for MLflow, `http://…/webhook`."""

    @property
    def names_by_kind(self) -> dict[str, str]:
        return {"Deployment": self.deployment, "Rollout": self.rollout}


def settings_from_environment() -> Settings:
    """Raises pydantic's ValidationError."""
    given = {name: os.environ.get(f"FBT_{name.upper()}") for name in Settings.model_fields}
    given["identity"] = os.environ.get("POD_NAME") or socket.gethostname()
    return Settings.model_validate({name: value for name, value in given.items() if value})
