"""Tensors from anywhere: the registry, downloads, Caffe2 files, PyTorch checkpoints."""
