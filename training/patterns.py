"""Which calls of a traced module become one row: convolution, batch norm, addition and ReLU, for instance."""

from dataclasses import dataclass

from sim.network import Activation
from training.traced import Call

ENDS = ("relu", "relu6")
ENDED = ("conv", "linear", "norm", "add", "multiply", "avgpool", "adaptive", "mean", "concat")
"""What ends in a ReLU that follows it."""
MULTIPLYING = ("conv", "linear")


@dataclass
class Pattern:
    """One row: the call that gives it its kind, its ReLU, its batch norm, and what is added to it."""

    call: Call
    function: str = "none"
    norm: Call | None = None
    skip: Call | None = None

    def activation(self, signed: bool) -> Activation:
        """Results that cannot be negative need no sign."""
        return Activation(function=self.function if self.function != "none" else "none" if signed else "relu")


def patterns(calls: list[Call]) -> dict[Call, Pattern]:
    """The pattern that ends at each call, from the last to the first; calls inside of patterns have none.

    A flattening that only layers read is part of them: they become windows over the whole of what it reads.
    """
    read_by_others = {source for call in calls if call.kind != "linear" for source in call.sources}
    inside = {call for call in calls[:-1] if call.kind == "flatten" and call not in read_by_others}
    found: dict[Call, Pattern] = {}
    for call in reversed(calls):
        if call not in inside:
            taken: list[Call] = []
            found[call] = _pattern(call, taken)
            inside.update(taken)
    return found


def _pattern(end: Call, taken: list[Call]) -> Pattern:
    call, function = end, "none"

    def step(to: Call) -> Call:
        taken.append(to)
        return to

    if call.kind in ENDS and call.sources[0].reads == 1 and call.sources[0].kind in ENDED:
        call, function = step(call.sources[0]), call.kind
    if call.kind == "flatten":
        return Pattern(call)
    if call.kind == "add" and len({*call.sources}) == 2 and call.settings["alpha"] == 1:
        for main, skip in (call.sources, call.sources[::-1]):
            layer = main.sources[0] if main.kind == "norm" and main.sources[0].reads == 1 else main
            if main.reads == 1 and layer.kind in MULTIPLYING and main.pixels == skip.pixels:
                step(main)
                if layer is not main:
                    step(layer)
                return Pattern(layer, function, main if layer is not main else None, skip)
    if call.kind == "norm" and call.sources[0].kind in MULTIPLYING and call.sources[0].reads == 1:
        return Pattern(step(call.sources[0]), function, call)
    return Pattern(call, function)
