"""The mathematics: schedules, the forward process, losses, samplers, guidance. Tensors in, tensors out; no weights.

Imports nothing else of minivdm. A network is an argument here, `model(x, t, cond)`, and never looked into.
"""
