"""Grids of runs.

What one says (grid.py), what follows for each job (planner.py, ladders.py; plan.py is the result), what is to do (tasks.py);
who does it (work.py, local.py, cluster.py; follow.py is the process of a command); which records are kept (keeper.py,
report.py); what a user sees of it (listing.py, overview.py).
"""
