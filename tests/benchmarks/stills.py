"""How many `SpriteStills` and `MovingSprites` clips a device draws per second, at 32 x 32 pixels.

python tests/benchmarks/stills.py
"""

import time

import torch

from minivdm.datasets.sprites import MovingSprites
from minivdm.datasets.stills import SpriteStills


def rate(sprites, batch, generator, seconds=2.0):
    """Samples per second, after one batch to warm up."""
    sprites.sample(batch, generator)
    start, drawn = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        sprites.sample(batch, generator)
        if generator.device.type == "cuda":
            torch.cuda.synchronize()
        drawn += batch
    return drawn / (time.perf_counter() - start)


if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(device).manual_seed(0)
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU", torch.__version__)
    for name, sprites, batches in (("stills", SpriteStills(32), (256, 4096)), ("clips", MovingSprites(16, 32), (256,))):
        for batch in batches:
            print(f"{name}, {batch} at a time: {rate(sprites, batch, generator):,.0f} per second", flush=True)
