"""What is learnt from, and its files: digits, drawn sprites and their captions, the learner's own clips.

Imports `minivdm.files` alone.
"""
