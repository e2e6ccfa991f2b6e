"""``python -m vidfeat.cli``."""

from vidfeat.cli import main

main()
