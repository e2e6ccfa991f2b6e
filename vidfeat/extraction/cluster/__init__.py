"""Extraction on all machines of a Ray cluster."""
