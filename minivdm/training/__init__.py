"""How a model learns, and goes on after a crash: the loop, averaged weights, checkpoints, precision, processes.

Imports `files`, `datasets`, `diffusion` and `models`.
"""
