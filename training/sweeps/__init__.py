"""Grids of runs: what one says (grid.py), what follows from it (plan.py), who does the work (work.py, local.py, cluster.py),
which records are kept (keeper.py), and what a user sees of it meanwhile (overview.py, listing.py).
"""
