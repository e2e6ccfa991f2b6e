"""Decoding in separate processes: whatever breaks a decoder breaks one child, not the run.

``tasks.py`` has the requests and answers, ``worker.py`` is the child, ``pool.py`` the parent,
``inline.py`` the same without processes. Children import av and numpy, never torch.
"""
