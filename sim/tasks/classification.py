"""A class for each image: the largest logit."""

import numpy as np

from sim.tasks.task import Measured, Task


class Classification(Task):
    """Logits [N, classes] against labels [N]."""

    name = "classification"
    unit = "images"
    measures = {"accuracy": "accuracy"}  # noqa: RUF012 - read alone

    def scores(self, logits: np.ndarray, examples: Measured) -> dict[str, np.ndarray]:
        """1 for each image whose label has the largest logit, the first of equal ones."""
        return {"accuracy": (logits.argmax(1) == np.asarray(examples.labels)).astype(np.float64)}

    def count(self, examples: Measured) -> int:
        """Images."""
        return len(examples.labels)
