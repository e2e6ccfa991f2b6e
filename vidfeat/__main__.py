"""``python -m vidfeat``."""

from vidfeat.cli import main

main()
