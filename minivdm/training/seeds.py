"""One seed for each thing that is drawn, mixed out of the run's seed and of what it is for.

With `seed + i` in their place, runs with the seeds 0 and 1 would share most of what they draw: the i-th micro-batch of
one would be the (i - 1)-th of the other.
"""

import hashlib
import operator

SEED_BYTES = 8  # PyTorch takes 64 bits; its generator on the CPU uses the lower 32 of them


def mixed_seed(seed: int, *purpose: int | str) -> int:
    """A seed in 0..2^64 - 1 that depends on all of the arguments, and in no simple way: a hash of them.

        mixed_seed(0, "clips", 17, 3)           # of the run with seed 0: phase "clips", step 17, micro-batch 3

    Args:
        seed: of the run; a whole number.
        purpose: names and numbers of what is to be drawn.

    Raises:
        TypeError: if one of them is neither a whole number nor a string.
    """
    parts = tuple(part if isinstance(part, str) else operator.index(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=SEED_BYTES).digest(), "little")
