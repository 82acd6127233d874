"""minivdm: a text-to-video diffusion model small enough to read in one sitting.

One concept a module, imports run downwards only. Images are `(B, C, H, W)` and videos `(B, C, F, H, W)` in [-1, 1].
Levels of noise are counted as the papers count them: 0 is clean data, 1..T carry noise.
"""

__version__ = "0.1.0"
