"""python -m bittrue: the command without its script."""

from bittrue.command import main

main()
