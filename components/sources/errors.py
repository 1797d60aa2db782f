"""The error of everything that reads a shop's data."""


class SourceError(ValueError):
    """The message names the source, what was found, what was expected and what to do."""
