"""python -m training.convert: a float network of others becomes a checkpoint that schemes start from.

    python -m training.convert --model resnet20 --float-weights resnet20.th --out float.pt
    python -m training.convert my_net.py:build --image 64x64x3 --out float.pt

The first takes weights that others have published for a network of this project; the second a torch module, traced through
torch.fx, with the weights that it has or those of a file.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import nn

from sim.checkpoint import Checkpoint, save_checkpoint
from sim.command import new_app, output_file, printable, run_app
from sim.formats import Shape
from sim.network import FLOAT_BITS, Activation, Conv, Graph, Input, NetworkError, NetworkSpec, Precision, Requantize, Row
from sim.registry import Registry, RegistryError
from sim.values import sizes
from training.emitted import Emitter
from training.models import MODELS
from training.models.published import PUBLISHED, published_width
from training.models.rows import RESIDUAL_LIMIT
from training.traced import ConvertError, trace
from training.weights import FLOAT_QUANTIZER, WeightsError, classes_of, float_network, read_state_dict

__all__ = ["ConvertError", "convert", "convert_published"]

SMALL_IMAGE = (32, 32, 3)
RELU6_LIMIT = 6.0


def convert(module: nn.Module, image_shape: Shape, mean: Sequence[float], std: Sequence[float]) -> NetworkSpec:
    """A torch module as a float network: its graph, and its weights at the moment.

    `image_shape` is (height, width, channels); the module reads [N, channels, height, width] of (p / 255 - mean) / std, p
    the pixels.  Batch norms fold into the layer before them, ReLU and ReLU6 end the row before them, what is added to a
    layer's sums becomes its residual, fully connected layers become windows over all they read, dropout is nothing.

    Roles are those of this project's own networks: "boundary" for the first and last layer, "skip" for what is added, what
    tables read and what they multiply with, "inner" for the rest, which reads rows of the role skip through a
    requantization.  A layer that is called twice becomes two.

    >>> from torch import nn
    >>> layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> convert(layers, (8, 8, 1), (0.5,), (0.5,))
    <NetworkSpec: 8x8x1 -> 10 classes, 3 rows, float, dorefa, 1,502 numbers>

    Raises ConvertError with the module's path and source line for what has no row.
    """
    height, width, channels = image_shape
    image = Input("image", "", height, width, channels, tuple(map(float, mean)), tuple(map(float, std)))
    calls, last = trace(module, image_shape)
    emitter = Emitter(image, calls)
    emitter.run(last)
    try:
        graph = Graph(_with_roles(emitter, emitter.names[last]), (emitter.names[last],))
        return NetworkSpec(graph, emitter.arrays, Precision.of(FLOAT_BITS), FLOAT_QUANTIZER)
    except NetworkError as error:
        raise ConvertError(f"{type(module).__name__}: {error}") from None


def _with_roles(emitter: Emitter, last: str) -> tuple[Row, ...]:
    """The rows with roles and limits, and the requantizations from wide rows to narrow layers."""
    read_last = {emitter.base(row.source) for row in emitter.rows if row.name == last and row.source}
    rows: list[Row] = []
    narrow: dict[str, str] = {}
    for row in emitter.rows:
        found, end = row, row.ends()
        if end is not None:
            role = "skip" if row.name in emitter.wide else "boundary" if row.name in read_last else "inner"
            found = dataclasses.replace(found, activation=Activation(  # type: ignore[call-arg]
                role, _limit(emitter, row, end), end.function))
        if isinstance(found, Conv):
            is_boundary = row.name == last or row.source == emitter.image.name
            if not is_boundary and row.source not in narrow and emitter.base(row.source) in emitter.wide:
                function = "none" if emitter.signed[row.source] else "relu"
                narrow[row.source] = f"{row.source}_in"
                rows.append(Requantize(narrow[row.source], row.source, Activation(function=function)))
            source = row.source if is_boundary else narrow.get(row.source, row.source)
            found = dataclasses.replace(found, source=source, role="boundary" if is_boundary else "inner")
        rows.append(found)
    return tuple(rows)


def _limit(emitter: Emitter, row: Row, end: Activation) -> float:
    if end.function == "relu6":
        return RELU6_LIMIT
    if row.name in emitter.wide:
        return emitter.wide[row.name]
    return 1.0 if isinstance(row, Conv) else RESIDUAL_LIMIT


def convert_published(model: str, file: Path | str, *, width: int = 0, image_shape: Shape | None = None,
                      mean: Sequence[float] = (), std: Sequence[float] = ()) -> NetworkSpec:
    """A network of this project with weights from a state dict file; classes are as many as they know.

    Width, images and normalization are those that the published weights had, unless given.  Raises WeightsError,
    RegistryError or OSError.
    """
    build, known, state = MODELS.find(model), PUBLISHED.get(model), read_state_dict(file)
    side = known.side if known else SMALL_IMAGE[0]
    height, breadth, channels = image_shape or (side, side, 3)
    mean, std = mean or (known.mean if known else ()), std or (known.std if known else ())
    if not mean or not std:
        raise WeightsError(f"mean, std: nobody has published weights of {model}, say what they were trained with")
    image = Input("image", "", height, breadth, channels, tuple(map(float, mean)), tuple(map(float, std)))
    graph = build(image, classes_of(state, model), width or published_width(model))
    return float_network(graph, state, model)


def _module(name: str, value: Any) -> nn.Module:
    """The module that own code names: one, or a function without arguments that returns one."""
    made = value if isinstance(value, nn.Module) else value() if callable(value) else value
    if not isinstance(made, nn.Module):
        raise RegistryError(f"{name!r} gives {type(made).__name__}, expected a torch.nn.Module or a function that gives it")
    return made


OWN_MODULES: Registry[nn.Module] = Registry("module", {}, "bittrue.modules", _module)
app = new_app()


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="checkpoint to write, for --teacher or --init-from", parser=output_file,
                                      metavar="FILE")],
    module: Annotated[str, typer.Argument(
        help="your torch module: file.py:NAME or package.module:NAME, a module or a function that returns one")] = "",
    model: Annotated[str, typer.Option(help=f"instead of it, a network of this project: {', '.join(MODELS)}")] = "",
    float_weights: Annotated[Path | None, typer.Option(help="state dict file: torch.save(module.state_dict(), FILE)")
                             ] = None,
    image: Annotated[str, typer.Option(help="height x width x channels  [default: 32x32x3, or as published]")] = "",
    width: Annotated[int, typer.Option(help="channels of the first stage of --model  [default: as published]")] = 0,
    mean: Annotated[str, typer.Option(help="of the pixels, 0 to 1, by channel  [default: as published, or 0.5]")] = "",
    std: Annotated[str, typer.Option(help="of the pixels, by channel  [default: as published, or 0.5]")] = "",
) -> None:
    """Make a checkpoint of a float network from a torch module, or from weights that others have published."""
    if bool(module) == bool(model):
        raise ConvertError("name a module of yours, file.py:NAME, or a network of this project with --model")
    shape = _shape(image) if image else None
    means, stds = _numbers("mean", mean), _numbers("std", std)
    if model:
        if float_weights is None:
            raise ConvertError("float-weights: name the state dict file whose weights --model gets")
        spec = convert_published(model, float_weights, width=width, image_shape=shape, mean=means, std=stds)
    else:
        own, shape = OWN_MODULES.find(module), shape or SMALL_IMAGE
        if float_weights is not None:
            _load(own, float_weights)
        spec = convert(own, shape, means or (0.5,) * shape[2], stds or (0.5,) * shape[2])
    unknown = dict.fromkeys(("name", "path", "label"), "")
    save_checkpoint(out, Checkpoint(spec, unknown, {"converted": module or model, "weights": str(float_weights or "")}))
    first = spec.graph.input
    print(f"{len(spec.graph.rows)} rows, {sum(array.size for array in spec.arrays.values()):,} numbers, reads "
          f"{sizes((first.height, first.width, first.channels))} pixels of mean {_listed(first.mean)} and deviation "
          f"{_listed(first.std)}: {printable(out)}")


def _load(module: nn.Module, file: Path) -> None:
    try:
        module.load_state_dict(read_state_dict(file))
    except RuntimeError as error:
        raise WeightsError(f"{printable(file)}: {' '.join(str(error).split())}") from None


def _shape(text: str) -> Shape:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConvertError(f"image: {text!r} is not allowed, give height, width and channels such as 32x32x3")
    height, width, channels = map(int, parts)
    return height, width, channels


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConvertError(f"{name}: {text!r} is not a list of numbers such as 0.485,0.456,0.406") from None
    return numbers


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in np.asarray(numbers))


if __name__ == "__main__":
    run_app(app, ConvertError, WeightsError, RegistryError, NetworkError)
