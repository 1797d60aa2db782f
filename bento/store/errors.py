"""Errors of the store, in a module that does not import SQLAlchemy."""


class StoreError(RuntimeError):
    pass


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked, or refuses. The message holds no password."""


class RuleUnknown(StoreError):
    pass


class TooManyRules(StoreError):
    pass


class RuleChanged(StoreError):
    """Somebody changed the rule since its state that the change was made for."""


class NothingToUndo(StoreError):
    pass


class DraftUnknown(StoreError):
    pass


class DraftChanged(StoreError):
    """The draft is not the one that was read."""
