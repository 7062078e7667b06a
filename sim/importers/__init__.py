"""Models that others made, as programs."""


class ImporterError(ValueError):
    """A model that cannot be imported, in one line: the node, its operator, what is supported."""
