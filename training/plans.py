"""What a run is about to do, told before anything is trained: its networks, and which steps of its plan are wanted."""

from collections.abc import Mapping, Sequence

from sim.network import FLOAT_BITS, Graph, Row
from training.config import ConfigError, RunConfig
from training.models import MODELS
from training.schemes import Step


def graphs_of(config: RunConfig, first: Row, classes: int) -> dict[str, Graph]:
    """The networks of a run, "student" and "teacher".  Raises NetworkError or QuantizerError for widths they cannot have."""
    graphs = {"student": MODELS[config.model](first, classes, config.width),
              "teacher": MODELS[config.teacher_model or config.model](first, classes, config.teacher_width or config.width)}
    config.precision(config.path[-1]).check(graphs["student"])
    return graphs


def published_step(config: RunConfig, before: Sequence[Step]) -> Step:
    """The float step before the student that weights of others stand in for.  Raises ConfigError if there is none."""
    step = next((step for step in before if step.bits == FLOAT_BITS), None)
    if step is None:
        raise ConfigError(f"float-weights: scheme {config.scheme} has no float network before its student: choose ptq, "
                          "sqakd or another path, or begin with them: python -m training.convert, then --init-from")
    return step


def check_takes_teacher(config: RunConfig, steps: Sequence[Step]) -> None:
    """Raise ConfigError if there is no step that a given teacher could stand in for."""
    if len(steps) < 2:
        raise ConfigError(f"teacher: scheme {config.scheme} trains nothing before its student that a checkpoint could "
                          "stand in for, leave it out")


def adopted_step(config: RunConfig, steps: Sequence[Step], graphs: Mapping[str, Graph], bits: int, graph: Graph) -> str:
    """The name of the step that the given teacher, of that width and network, stands in for.  Raises ConfigError."""
    path = ",".join(map(str, config.path))
    if bits == config.bits:
        raise ConfigError(f"teacher {config.teacher} has {bits} bits, as the student: a teacher is a network before it "
                          f"on the path {path}")
    if bits not in config.path[:-1]:
        raise ConfigError(f"teacher {config.teacher} has {bits} bits and the path is {path}: name a path through it")
    for step in steps[:-1]:
        if step.bits == bits and graph == graphs[step.network]:
            return step.name
    raise ConfigError(f"teacher {config.teacher} is another network than any step of this run, or was trained on other data")


def wanted_steps(config: RunConfig, steps: Sequence[Step], adopted: str) -> list[Step]:
    """The steps that the last one depends on, as far as no adopted checkpoint stands in for them.

    Raises ConfigError if none of them takes the weights of `init_from`.
    """
    by_name = {step.name: step for step in steps} | {step.partner_name: step for step in steps if step.partner is not None}
    needed: set[str] = set()
    waiting = [steps[-1].name]
    while waiting:
        step = by_name[waiting.pop()]
        if step.name not in needed and step.name != adopted:
            needed.add(step.name)
            waiting += [name for name in (step.start, step.teacher, step.partner) if name]
    wanted = [step for step in steps if step.name in needed]
    if config.init_from and not any(not step.start and step.network == "student" for step in wanted):
        raise ConfigError("init-from: no step of this run begins with random weights, so that nothing takes these")
    return wanted
