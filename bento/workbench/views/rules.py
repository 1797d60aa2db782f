"""Correct: all pages of rules."""

from bento.workbench.routing import Views
from bento.workbench.views import rule_changes, rule_drafts, rule_form

VIEWS = Views()
# The id of a rule may be any text: the page of one comes last.
for part in (rule_changes, rule_drafts, rule_form):
    VIEWS.routes += part.VIEWS.routes
