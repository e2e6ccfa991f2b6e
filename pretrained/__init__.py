"""The registry of published weights, and the weights that come with vidfeat."""
