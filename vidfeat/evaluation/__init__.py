"""Metrics, score files, projections and plots."""
