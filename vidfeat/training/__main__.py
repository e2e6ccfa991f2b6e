"""``torchrun --nproc-per-node 8 -m vidfeat.training RECIPE --data DIR -o RUN``.

The same as ``vidfeat train``. An entry point counts as ``cli``, above all packages, wherever its
file is.
"""

import os
import sys

from vidfeat.cli import main

sys.argv[1:1] = ["train"]
status: object = 0
try:
    main()
except SystemExit as end:
    status = end.code
sys.stdout.flush()
sys.stderr.flush()
# Process groups and their threads do not always survive the interpreter's teardown: exit at once,
# with everything written.
os._exit(status if isinstance(status, int) else 1 if status else 0)
