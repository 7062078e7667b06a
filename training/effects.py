"""Which options have an effect in a run: what nothing reads is refused, because who gives it expects something of it.

A scheme names the options of its own that it reads (`Scheme.uses`), an objective those of its loss (`objectives.reads`);
what is left follows from which steps are trained, and from how they are quantized.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from sim.network import FLOAT_BITS, Conv, Graph
from training.config import MULTISTEP, RunConfig
from training.options import OPTIONS, ConfigError
from training.quantizers import QUANTIZERS
from training.register_options import OVERFLOW
from training.schemes import SchemeOptions, Step, find_scheme
from training.schemes.objectives import LOSS_OPTIONS, STATES, co_studied, hinton, joint, options_read, tutored
from training.schemes.states import attention_rows

WEIGHTED = (hinton, tutored, co_studied, joint)
"""Objectives that ask a teacher only where its soft labels have a weight, or its mistakes."""


@dataclass(frozen=True)
class Run:
    """What a run is about to do: all steps of its plan, and those that no given teacher stands in for."""

    config: RunConfig
    graph: Graph
    plan: Sequence[Step]
    wanted: Sequence[Step]

    @property
    def trained(self) -> list[Step]:
        """The steps that are trained."""
        return [step for step in self.wanted if step.trains]

    @property
    def has_no_norms(self) -> bool:
        """Whether its student has no batch norm."""
        return not any(isinstance(row, Conv) and row.norm for row in self.graph.rows)

    @property
    def is_quantized(self) -> bool:
        """Whether this run makes a network that is not float."""
        return any(step.bits != FLOAT_BITS for step in self.wanted)

    def asks(self, step: Step) -> bool:
        """Whether the loss of a step depends on what its teacher or partner says."""
        read = options_read(step.objective, self.config, self.config.is_student(step))
        by_example = bool(self.config.hard_example_weight) and "hard_example_weight" in read
        by_state = any(getattr(self.config, name) for name in STATES & read)
        return step.objective not in WEIGHTED or "temperature" in read or by_example or by_state

    @property
    def used(self) -> set[str]:
        """The steps that others begin with or learn from."""
        starts = {step.start for step in self.wanted if step.start}
        return starts | {name for step in self.wanted if self.asks(step) for name in (step.teacher, step.partner) if name}

    def reads_loss_option(self, name: str) -> bool:
        """Whether the loss of a step depends on this option."""
        return any(name in options_read(step.objective, self.config, self.config.is_student(step)) for step in self.trained)


_UNASKED = "no loss of this run asks a teacher, as kd-weight or drop-kd-after is 0"


def _untrained(run: Run) -> str:
    return "" if run.trained else "this run trains nothing, its networks are taken over and calibrated"


def _states(run: Run) -> str:
    if not attention_rows(run.graph):
        return f"{run.config.model} has no attention"
    is_own = any(step.network == "teacher" for step in run.plan)
    return "the teacher's own architecture has other states than the student's" if is_own else ""


def _statistics(run: Run) -> str:
    return f"{run.config.model} has no batch norm" if run.has_no_norms else ""


def _milestones(run: Run) -> str:
    schedule = run.config.schedule
    return "" if schedule == MULTISTEP else f"a {schedule} schedule has none, add --schedule multistep"


def _warmup(run: Run) -> str:
    return "a multistep schedule begins at its first rate" if run.config.schedule == MULTISTEP else ""


def _still(run: Run) -> str:
    return _untrained(run) or ("" if run.config.lr else "at a learning rate of 0 nothing moves")


def _teacher(run: Run) -> str:
    taken_over = {step.name for step in run.plan} - {step.name for step in run.wanted}
    return "" if taken_over & run.used else _UNASKED


def _teacher_network(run: Run) -> str:
    if not any(step.network == "teacher" or step.partner is not None for step in run.plan):
        return "no step of this run has a teacher of its own architecture"
    is_used = any(step.network == "teacher" and step.name in run.used for step in run.plan) or any(
        step.partner is not None and run.asks(step) for step in run.wanted)
    return "" if is_used else _UNASKED


def _calibration(run: Run) -> str:
    quantizer = QUANTIZERS[run.config.quantizer]
    if not (quantizer.activation_parameters() or quantizer.weight_parameters(1)):
        return f"quantizer {run.config.quantizer} has no learned intervals that it could begin with"
    return "" if run.is_quantized else "no network of this run is quantized"


def _boundary_bits(run: Run) -> str:
    return "" if run.is_quantized else "no network of this run is quantized, all its layers are float"


def _register(run: Run) -> str:
    if not run.config.accumulator_bits:
        return "there is no register without accumulator-bits"
    method = run.config.accumulator_training
    return "" if method == OVERFLOW else f"what no sum can leave ({method}) never overflows"


def _tile(run: Run) -> str:
    return _register(run) or ("" if run.config.overflow != "wrap" else
                              "a register that wraps ends with the same bits however its sums come")


def _skip_bits(run: Run) -> str:
    if not run.is_quantized:
        return "no network of this run is quantized, its residual path is float"
    has_path = any(row.has_role("skip") for row in run.graph.rows)
    return "" if has_path else f"{run.config.model} has no residual path"


RULES: Mapping[str, Callable[[Run], str]] = MappingProxyType({
    **dict.fromkeys(("epochs", "lr", "augment", "gradients", "save_minutes"), _untrained),
    **dict.fromkeys(("schedule", "weight_decay", "momentum", "optimizer", "clip", "accumulate"), _still),
    **dict.fromkeys(STATES, _states), "teacher_statistics": _statistics,
    "warmup": lambda run: _still(run) or _warmup(run),
    "milestones": lambda run: _still(run) or _milestones(run), "teacher": _teacher,
    "float_weights": _teacher,
    "teacher_model": _teacher_network, "teacher_width": _teacher_network,
    "calibration": _calibration, "boundary_bits": _boundary_bits, "skip_bits": _skip_bits,
    "activation_bits": _boundary_bits, "overflow": _register, "tile": _tile,
})
"""option -> why nothing reads it in a run; empty if something does.  Those of losses and of schemes are not here."""


def refuse_unread(given: Collection[str], run: Run) -> None:
    """Raise ConfigError for the first of the given options that this run does not read."""
    scheme = find_scheme(run.config.scheme)
    own = {field.name for field in fields(SchemeOptions)}
    for name in given:
        if name in own and name not in scheme.uses:
            raise ConfigError(f"{OPTIONS[name].text}: scheme {run.config.scheme} has no such option")
        if name in LOSS_OPTIONS and not run.reads_loss_option(name):
            raise ConfigError(f"{OPTIONS[name].text}: no loss of this run of scheme {run.config.scheme} reads it, "
                              "it would change nothing")
        if reason := RULES.get(name, lambda run: "")(run):
            raise ConfigError(f"{OPTIONS[name].text}: {reason} (scheme {run.config.scheme}), it would change nothing")
