"""Learning curves of a run as a picture: loss and validation accuracy over the epochs of every step."""

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.files import write_atomically
from sim.text import printable

_LOCK = threading.Lock()
"""The settings of matplotlib belong to the whole process: one run at a time changes them and puts them back."""


def draw_curves(record: Mapping[str, Any], file: Path) -> None:
    """Write the curves of a record as SVG; the same record gives the same bytes.  Whatever is named in it is plain text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _LOCK, mpl.rc_context({
            "svg.hashsalt": "bittrue", "svg.fonttype": "path", "text.usetex": False, "text.parse_math": False}):
        figure = Figure(figsize=(8.0, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        losses, accuracies = figure.subplots(1, 2)
        entries = [entry for step in record["steps"].values() for entry in step["epochs"]]
        measure = "F1" if any("validation_f1" in entry for entry in entries) else "accuracy"
        for axes, key, label in ((losses, "loss", "training loss"),
                                 (accuracies, "validation_accuracy", f"validation {measure}, %")):
            done = 0
            for number, (name, step) in enumerate(record["steps"].items()):
                epochs = [done + entry["epoch"] for entry in step["epochs"]]
                axes.plot(epochs, [entry[key] for entry in step["epochs"]], ".-", color=f"C{number % 10}", linewidth=1.2,
                          label=printable(name) if epochs else None)
                done += len(epochs)
            axes.set_xlabel("epoch, one step after the other")
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        handles, labels = losses.get_legend_handles_labels()
        if handles:  # outside, so that it covers no points
            figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize="small")
        config = record["config"]
        figure.suptitle(printable(f"{config['scheme']} on {record.get('data', {}).get('label', config.get('dataset', ''))}, "
                                  f"{config['model']}, seed {config['seed']}"), fontsize="medium")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_atomically(file, lambda out: out.write(buffer.getvalue()))
