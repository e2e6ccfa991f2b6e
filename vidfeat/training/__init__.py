"""Training: recipes, the loop, checkpoints, many processes.

::

    torchrun --nproc-per-node 8 -m vidfeat.training kinetics_r2plus1d_18_16f --data DIR -o RUN
"""
