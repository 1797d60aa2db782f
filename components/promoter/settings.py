"""Settings of the promoter."""

import os
import socket

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Settings(BaseModel):
    """From variables with the prefix FBT_, and POD_NAME."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="fbt", min_length=1)
    """Of the service, of the Lease, and of the Events."""
    deployment: str = Field(default="fbt", min_length=1)
    rollout: str = Field(default="fbt", min_length=1)
    """Its workloadRef is the Deployment; it may be missing."""
    identity: str = Field(min_length=1)
    """The pod's name; two promoters with one name would both act."""
    lease: str = "fbt-promoter"
    lease_s: float = Field(default=15.0, ge=1, le=300)
    poll_s: float = Field(default=15.0, gt=0, le=600)
    host: str = "0.0.0.0"
    port: int = Field(default=8080, ge=0, le=65535)
    webhook_secret: SecretStr = SecretStr("")
    """MLflow signs its webhooks with it; without one the promoter only polls."""
    webhook_url: str = ""
    """Address of this promoter for MLflow, `http://…/webhook`; with a secret, the promoter
    subscribes by itself."""

    @property
    def watched(self) -> dict[str, str]:
        """Name by kind."""
        return {"Deployment": self.deployment, "Rollout": self.rollout}


def settings_from_environment() -> Settings:
    """Raises pydantic's ValidationError."""
    given = {name: os.environ.get(f"FBT_{name.upper()}") for name in Settings.model_fields}
    given["identity"] = os.environ.get("POD_NAME") or socket.gethostname()
    return Settings.model_validate({name: value for name, value in given.items() if value})
