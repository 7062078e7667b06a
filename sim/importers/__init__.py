"""Models that others made, as programs."""
