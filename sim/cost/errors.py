"""What goes wrong when costs are counted."""


class CostError(ValueError):
    """A table of energies or an array that there is not, or what it cannot count: which key, and what is allowed."""
