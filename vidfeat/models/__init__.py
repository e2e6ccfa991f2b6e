"""The networks: those of the R(2+1)D paper in one file of blocks, others beside it."""
