"""Decoding in processes of its own: what breaks a decoder breaks one child, not the run.

``tasks.py`` says what is asked and answered, ``worker.py`` is the child, ``pool.py`` the parent,
``inline.py`` the same without processes. Children import av and numpy, never torch.
"""
