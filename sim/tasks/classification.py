"""A class for each image: the largest logit."""

from types import MappingProxyType
from typing import Any

import numpy as np

from sim.tasks.task import Measured, Task


class Classification(Task):
    """Logits [N, classes] against labels [N]."""

    name = "classification"
    unit = input = "images"
    measures = MappingProxyType({"accuracy": "accuracy"})
    has_classes = True

    def scores(self, logits: np.ndarray, examples: Measured) -> dict[str, np.ndarray]:
        """1 for each image whose label has the largest logit, the first of equal ones."""
        return {"accuracy": (logits.argmax(1) == np.asarray(examples.labels)).astype(np.float64)}

    def count(self, examples: Measured) -> int:
        """Images."""
        return len(examples.labels)

    def right(self, logits: np.ndarray, labels: np.ndarray) -> int:
        """Images."""
        return int((logits.argmax(1) == labels).sum())

    def labels_below(self, shape: tuple[int, ...]) -> int:
        """Classes."""
        return shape[2]

    def predictions(self, logits: np.ndarray, examples: Measured) -> np.ndarray:
        """Classes int64 [N]."""
        return logits.argmax(1)

    def classes(self, predictions: np.ndarray, examples: Any) -> list[dict[str, Any]]:
        """Images of each class, and those that are right."""
        names, labels = examples.class_names, examples.labels
        images = np.bincount(labels, minlength=len(names)).tolist()
        right = np.bincount(labels[predictions == labels], minlength=len(names)).tolist()
        return [{"class": number, "name": names[number], "images": images[number], "right": right[number],
                 "accuracy": 100.0 * right[number] / images[number] if images[number] else None}
                for number in range(len(names))]

    def table(self, logits: np.ndarray, predictions: np.ndarray, examples: Any) -> list[list[Any]]:
        """A line for each image: index, label, prediction, names and file if there are any, every logit."""
        class_names = examples.class_names
        is_named = class_names != tuple(map(str, range(len(class_names))))
        lines: list[list[Any]] = [["index", "label", "prediction", *(["label_name", "prediction_name"] if is_named else []),
                                   *(["file"] if examples.files else []),
                                   *(f"logit_{number}" for number in range(logits.shape[1]))]]
        for index, (label, prediction) in enumerate(zip(examples.labels.tolist(), predictions.tolist(), strict=True)):
            names = [class_names[label], class_names[prediction]] if is_named else []
            names += examples.files[index : index + 1]
            lines.append([index, label, prediction, *names, *map(str, logits[index])])
        return lines
