"""Of ladders of one scheme with equal options only the first trains the steps that they have in common."""

from collections.abc import Mapping

from training.sweeps.plan import Plan, Reference

_LADDER_KEYS = ("path", "teacher")


def ladder_to_share(plan: Plan, plans: Mapping[tuple[str, str], Plan], seeds: tuple[int, ...]) -> Reference | None:
    """The last step that an earlier ladder of the same options has in common with this one, if it would be trained."""
    grid, config = plan.grid, plan.config
    if not _is_ladder(plan):
        return None
    own, best = _given_steps(plan), None
    for name in grid.jobs:
        if name == plan.job.name:
            break
        other = plans.get((grid.name, name))
        if other is None or not _is_ladder(other) or other.told != plan.told or not _same_but(_LADDER_KEYS, other, plan):
            continue
        if not set(plan.job.seeds or seeds) <= set(other.job.seeds or seeds):
            continue
        common = _common(other.config.path, config.path)
        if common > own and common >= _given_steps(other) and (best is None or common > best[0]):
            whole = common == len(other.config.path)
            best = common, Reference(grid.name, name, "" if whole else plan.run.plan[common - 1].name)
    return best[1] if best else None


def _is_ladder(plan: Plan) -> bool:
    """Whether each step begins as and learns from the one before, so that a prefix of the path decides its networks."""
    steps = plan.run.plan
    is_chain = all(step.start == step.teacher == (before.name if before else None)
                   for step, before in zip(steps, [None, *steps], strict=False))
    return len(steps) > 1 and is_chain and not plan.config.layer_bits and all(
        step.network == "student" and step.partner is None and step.share == 1.0 for step in steps)


def _given_steps(plan: Plan) -> int:
    """How many steps of a ladder a given teacher stands in for."""
    return len(plan.config.path) - len(plan.run.wanted)


def _same_but(left: tuple[str, ...], one: Plan, other: Plan) -> bool:
    mine, theirs = ({key: value for key, value in plan.config.to_json().items() if key not in (*left, "seed")}
                    for plan in (one, other))
    return mine == theirs


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    count = 0
    for mine, theirs in zip(one, other[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count
