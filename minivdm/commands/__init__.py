"""What a person runs: train, sample, evaluate, and the scripts that made the files in `data/`.

Imports the whole library; nothing but the program (`minivdm/__main__.py`) imports it.
"""
