"""The audit trail of rules."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bento.schemas.base import Response, example


class RuleHistoryRequest(BaseModel):
    """A page of the audit trail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(default=100, ge=1, le=1000, description="The maximum number of changes.")
    before: int | None = Field(
        default=None,
        ge=1,
        le=2**63 - 1,  # the database's largest
        description="Only changes before this revision. The `revision` of a page's last change "
        "asks for the next page.",
    )


class RuleChange(Response):
    """One change of a rule."""

    revision: int = Field(description="Number of the change; later changes have higher ones.")
    changed_at: datetime
    changed_by: str = Field(description="`X-Fbt-User` of the change, or `token` without one.")
    action: Literal["add", "replace", "delete"]
    rule_id: str
    before: dict[str, Any] | None = Field(description="The rule before; null for an added one.")
    after: dict[str, Any] | None = Field(description="The rule after; null for a deleted one.")
    undoes: int | None = Field(
        default=None, description="Revision of the change that this one takes back, if it does."
    )


class RuleHistory(Response):
    """Changes of rules, newest first."""

    model_config = example(
        changes=[
            {
                "revision": 42,
                "changed_at": "2026-01-01T09:00:00Z",
                "changed_by": "ann",
                "action": "delete",
                "rule_id": "0f5c1e3a9b7d4f60a1c2d3e4f5a6b7c8",
                "before": {"action": "block", "target": {"brand": "Recalled & Co"}},
                "after": None,
            }
        ]
    )

    changes: list[RuleChange]
