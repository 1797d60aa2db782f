"""Where the promoter works."""

import os
import socket

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Settings(BaseModel):
    """Where the promoter works, from variables with the prefix FBT_ and POD_NAME."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="fbt", min_length=1)
    """Of the service, of the Lease, and of the Events."""
    deployment: str = Field(default="fbt", min_length=1)
    rollout: str = Field(default="fbt", min_length=1)
    """The Rollout whose workloadRef is the Deployment, where there is one."""
    identity: str = Field(min_length=1)
    """The pod's name: of two promoters with one name, both would act."""
    lease: str = "fbt-promoter"
    lease_s: float = Field(default=15.0, ge=1, le=300)
    poll_s: float = Field(default=15.0, gt=0, le=600)
    host: str = "0.0.0.0"
    port: int = Field(default=8080, ge=0, le=65535)
    webhook_secret: SecretStr = SecretStr("")
    """What MLflow signs its webhooks with; without one only polling is left."""

    webhook_url: str = ""
    """Where MLflow reaches this promoter, `http://…/webhook`; given a secret, too, the promoter
    subscribes by itself."""

    @property
    def names(self) -> dict[str, str]:
        """Name by kind of the objects that are watched and repaired."""
        return {"Deployment": self.deployment, "Rollout": self.rollout}


def settings_from_environment() -> Settings:
    """Raises pydantic's ValidationError, naming what is wrong."""
    given = {name: os.environ.get(f"FBT_{name.upper()}") for name in Settings.model_fields}
    given["identity"] = os.environ.get("POD_NAME") or socket.gethostname()
    return Settings.model_validate({name: value for name, value in given.items() if value})
