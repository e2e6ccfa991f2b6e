"""``torchrun --nproc-per-node 8 -m vidfeat.train RECIPE --data DIR --out RUN``."""

import sys

from vidfeat.cli import main

sys.argv[1:1] = ["train"]
main()
