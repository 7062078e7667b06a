"""Costs as tables that fit 80 columns."""

from rich.console import Console
from rich.table import Table

from sim.command import new_table, show_table
from sim.cost.cost import Cost
from sim.text import short


def show_cost(console: Console, cost: Cost) -> None:
    """Operations and memory by layer; cycles on the array, if one was named; zeros and toggled bits, if there were data."""
    show_table(console, _operations(cost))
    console.print("of one image: bit ops: MACs x bits of both operands; EBOPs: with the effective bits of each weight (HGQ)")
    console.print("weights, output: their bits; energy: "
                  f"table {cost.table.name}, every weight, input and result moved once")
    if cost.array is not None:
        show_table(console, _cycles(cost))
        console.print(f"{cost.array.text}; {cost.total['cycles']:,} cycles one layer after the other, "
                      f"{cost.total['slowest_cycles']:,} the slowest")
    if cost.activity:
        show_table(console, _activity(cost))
        console.print(f"on {cost.images} images: share of products with a 0; toggled bits of a product, register bits")
    total = cost.total
    console.print(f"{total['macs']:,} MACs, {total['bops']:,} bit ops, {total['ebops']:,} EBOPs, "
                  f"{total['weight_bits']:,} bits of weights, peak {total['peak_activation_bits']:,} bits of activations, "
                  f"{(total['compute_pj'] + total['memory_pj']) / 1e3:,.1f} nJ")


def _operations(cost: Cost) -> Table:
    table = new_table("layer", "MACs", "bit ops", "EBOPs", "weights", "output", "nJ", left=("layer",))
    for layer in cost.layers:
        if layer.macs:
            table.add_row(layer.name, short(layer.macs), short(layer.bops), short(layer.ebops), short(layer.weight_bits),
                          short(layer.output_bits), f"{cost.energy[layer.name].total_pj / 1e3:,.2f}")
    return table


def _cycles(cost: Cost) -> Table:
    table = new_table("layer", "cycles", "util. %", "mapped %", "compute %", left=("layer",))
    for name, timing in cost.timing.items():
        table.add_row(name, f"{timing.total_cycles:,}", f"{timing.overall_util:.1f}", f"{timing.mapping_efficiency:.1f}",
                      f"{timing.compute_util:.1f}")
    return table


def _activity(cost: Cost) -> Table:
    table = new_table("layer", "0 act. %", "0 wt. %", "either %", "act.", "weight", "register", "of", left=("layer",))
    for name, found in cost.activity.items():
        table.add_row(name, *(f"{found.share(key):.1f}" for key in ("zero_activations", "zero_weights", "zero_either")),
                      *(f"{found.per_product(key):.2f}" for key in
                        ("toggled_activations", "toggled_weights", "toggled_register")), str(found.register_bits))
    return table
