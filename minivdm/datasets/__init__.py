"""What is learnt from, and its files: digits, drawn sprites, captions and their tokenizer, people's own clips.

Imports `minivdm.files` alone.
"""
