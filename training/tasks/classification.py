"""A class for each image."""

from training.tasks.task import Task


class Classification(Task):
    """Logits [N, classes] against labels [N]."""

    name = "classification"
    inputs = "images"
    batch = 500
