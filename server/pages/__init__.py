"""The page, the list of models, probes."""
