"""What can go wrong with the database, without loading what it takes to talk to one."""


class StoreError(RuntimeError):
    """Rules and catalogue changes cannot be read or written."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked, or refuses; the message holds no password."""


class RuleUnknown(StoreError):
    """There is no rule of that id (any more)."""


class TooManyRules(StoreError):
    """The shop has as many rules as it may have."""
