"""Is it any good? Metrics, the classifiers that judge samples, attention maps, pictures to look at, and diagrams.

Imports `files`, `datasets`, `diffusion` and `models`.
"""
