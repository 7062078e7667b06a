"""What a run may be told beside its recipe: options that only some schemes have."""

from dataclasses import dataclass

from training.presets import Recipe

PHASES = ("ss", "cs", "tu")
STATISTICS = ("batch", "running", "shared")
CANDIDATES = ("pair", "uniform")
SELF_DISTILLATIONS = ("cosine", "kl")


class SchemeError(ValueError):
    """A scheme, path, width or option that makes no sense, and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class SchemeOptions:
    """What only some schemes have; a scheme names in `uses` those that it reads.  Defaults are published or ours (?)."""

    teacher_model: str = ""
    """The teacher's own architecture; empty: the student's."""
    teacher_width: int = 0
    """Channels of its first stage; 0: the student's."""
    phases: tuple[str, ...] = PHASES
    """qkd: which of self-studying, co-studying and tutoring run."""
    fixed_teacher: bool = False
    """qkd: the teacher does not learn while co-studying."""
    u: float = 0.5
    """speq: probability of the teacher's high precision in each layer."""
    high_bits: int = 8
    """speq: the teacher's high precision."""
    candidates: str = "pair"
    """speq: the student's width and high_bits, or any width from 2 to 8 alike."""
    teacher_statistics: str = "batch"
    """speq: the teacher pass normalizes by its batch, by the running statistics, or shares in updating them (?)."""
    self_distillation: str = "cosine"
    """speq: cosine or kl."""
    drop_kd_after: float = 1.0
    """The part of a step after which it learns from labels alone."""
    hard_example_weight: float = 0.0
    """How much more an example counts that the teacher (and the network of `individual`) gets wrong."""
    individual: str = ""
    """Checkpoint of a network trained alone, for hard_example_weight."""

    @property
    def is_given_weights(self) -> bool:
        """Whether the user gives the weights that the first networks begin with (--init-from)."""
        return False

    def check_options(self) -> None:
        """Raise SchemeError for a value that is not allowed."""
        for key, choices in (("candidates", CANDIDATES), ("teacher_statistics", STATISTICS),
                             ("self_distillation", SELF_DISTILLATIONS)):
            if getattr(self, key) not in choices:
                raise SchemeError(f"{option_name(key)}: {getattr(self, key)!r} is unknown, choose one of "
                                  f"{', '.join(choices)}")
        if not self.phases or any(phase not in PHASES for phase in self.phases) or \
                list(self.phases) != sorted(set(self.phases), key=PHASES.index):
            raise SchemeError(f"phases: {','.join(self.phases)!r} is not allowed, choose from {','.join(PHASES)}, in order")
        for key, low, high in (("u", 0.0, 1.0), ("high_bits", 2, 8), ("drop_kd_after", 0.0, 1.0),
                               ("hard_example_weight", 0.0, 1e3), ("teacher_width", 0, 1024)):
            if not low <= getattr(self, key) <= high:
                raise SchemeError(f"{option_name(key)}: {getattr(self, key)} is not allowed, choose {low} to {high}")
        if self.candidates == "uniform" and (self.u, self.high_bits) != (SchemeOptions.u, SchemeOptions.high_bits):
            raise SchemeError("u, high-bits: with candidates uniform every width is as likely, choose candidates pair")
        if self.individual and not self.hard_example_weight:
            raise SchemeError("individual: its mistakes count only with a hard-example-weight above 0")


@dataclass(frozen=True, kw_only=True)
class LossOptions(Recipe, SchemeOptions):
    """What a loss may read: the recipe, the scheme's options, the widths of the path."""

    path: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits of the student."""
        return self.path[-1]


def option_name(key: str) -> str:
    """An option as the command line writes it."""
    return key.replace("_", "-")
