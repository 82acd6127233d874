"""Whole models, from a prompt to pixels, and the trained ones that come with the course.

Imports everything below: `files`, `datasets`, `diffusion`, `models`, `training` and `evaluation`.
"""
