"""The search page: a local web server over an index."""
