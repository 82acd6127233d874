"""The networks: layers, U-Nets for pictures and clips, CLIP, the text encoder. They know no schedule and no data.

Imports nothing else of minivdm.
"""
