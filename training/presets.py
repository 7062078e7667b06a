"""Recipes by name.  Every value can be overridden on the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyperparameters of one training step; `epochs` counts per step of a ladder."""

    epochs: int
    batch: int
    lr: float
    schedule: str
    milestones: tuple[float, ...]
    weight_decay: float
    momentum: float
    kd_weight: float
    temperature: float
    kl_reduction: str
    boundary_bits: int
    warmup: float = 0.1
    """Part of a step over which the rate first rises to its peak; a multistep schedule begins at it."""
    optimizer: str = "sgd"
    """SGD with momentum as it is, or with Nesterov's; AdamW."""
    label_smoothing: float = 0.0
    """Part of a label's weight that all classes share."""
    clip: float = 0.0
    """Largest norm of all gradients together (Pascanu et al. 2013); 0: they stay as they are."""
    accumulate: int = 1
    """Batches whose gradients make one step of the optimizer."""
    hidden_weight: float = 0.0
    """Weight of the squared distance between the hidden states of student and teacher (TernaryBERT)."""
    attention_weight: float = 0.0
    """Weight of that between their attention scores."""


PRESETS: Mapping[str, Recipe] = MappingProxyType({
    # ours: minutes on two cores
    "quick": Recipe(epochs=20, batch=64, lr=0.05, schedule="cosine", milestones=(), weight_decay=5e-4, momentum=0.9,
                    kd_weight=0.05, temperature=5.0, kl_reduction="batch", boundary_bits=8),
    # the fast recipe for CIFAR: what grid `recipe` varies, and where it begins.  Nesterov and a short rise are those of fast
    # public recipes for ResNets; labels stay as they are, as smoothed ones make teachers that say less (Mueller et al. 2019)
    "cifar": Recipe(epochs=24, batch=128, lr=0.1, schedule="cosine", milestones=(), weight_decay=5e-4, momentum=0.9,
                    kd_weight=0.05, temperature=5.0, kl_reduction="batch", boundary_bits=8, warmup=0.1,
                    optimizer="nesterov"),
    # as Liao et al. 2020 report it; they do not say for how many epochs, 180 gives each learning rate its 45
    "report": Recipe(epochs=180, batch=256, lr=0.1, schedule="multistep", milestones=(45, 90, 135), weight_decay=5e-4,
                     momentum=0.9, kd_weight=0.05, temperature=5.0, kl_reduction="batch", boundary_bits=32),
    # as their code ran it: the KL is averaged over classes too, so l = 0.05 T^2 = 1.25 counts as 0.125 of 10 classes
    "code": Recipe(epochs=160, batch=128, lr=0.01, schedule="multistep", milestones=(120,), weight_decay=1e-4,
                   momentum=0.9, kd_weight=0.05, temperature=5.0, kl_reduction="classes", boundary_bits=32),
    # fine-tuning of an encoder on questions: optimizer, warm-up, line to 0, decay, clip, batch 16 and 2 epochs are BERT's
    # (Devlin et al. 2019, appendix A.3, and its run_squad.py).  The rate is above its 2e-5 to 5e-5, as small networks bear
    # more (Turc et al. 2019 search up to 3e-4), and short runs need it.  l and T are ours
    "squad": Recipe(epochs=2, batch=16, lr=1e-4, schedule="linear", milestones=(), weight_decay=0.01, momentum=0.9,
                    kd_weight=0.5, temperature=2.0, kl_reduction="batch", boundary_bits=8, warmup=0.1, optimizer="adamw",
                    clip=1.0),
})
