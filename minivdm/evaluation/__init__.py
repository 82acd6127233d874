"""Is it any good? Metrics, the classifiers that judge samples, attention maps, and pictures to look at.

Imports `files`, `datasets`, `diffusion` and `models`.
"""
