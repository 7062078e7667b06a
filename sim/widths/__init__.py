"""How wide a network's registers have to be: `python -m sim.widths`.

bounds.py what can be known of weights alone | observed.py what images show | assignment.py a register for each layer that
keeps the accuracy | outcome.py tables, record
"""
