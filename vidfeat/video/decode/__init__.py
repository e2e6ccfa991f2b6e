"""Decoding in separate processes: whatever crashes a decoder ends one child, not the run.

``tasks.py`` has the requests and answers, ``worker.py`` is the child, ``pool.py`` is the parent,
``inline.py`` does the same without processes. Children import av and numpy, never torch.
"""
