"""What goes wrong when two machines are compared."""


class DiffError(ValueError):
    """A side that there is not, or two that cannot be compared: which, and what is allowed."""
