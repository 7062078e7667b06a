"""Make `import torchvision` work under a CPU build of torch.

torchvision's published wheels are built for CUDA torch.  Under a CPU build their compiled operators do not load, and
the import fails because torchvision registers a fake implementation for operators that do not exist.  Its data sets
need none of them, so declaring their schemas is enough.
"""

import torch

MISSING_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a library's operators live as long as the object


def prepare_torchvision() -> None:
    """Declare the operators if, and only if, torchvision's own cannot be loaded.  Call before importing torchvision."""
    if torch.version.cuda is not None or _libraries:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in MISSING_SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    _libraries.append(library)
