"""What a person runs: train, sample, evaluate, and the scripts that made the files in `data/`.

Their flags are in `minivdm/__main__.py`, the numbers of `train` in `settings`. Imports the whole library; nothing but
the program (`minivdm/__main__.py`) imports it.
"""
