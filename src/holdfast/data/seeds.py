"""Seeds of random draws, derived from names.

A name such as (run seed, "rollout", stage, step, row) is hashed to a seed. So a draw depends only on its name, not on
what was drawn before it or on its batch. A resumed run therefore makes the same draws without stored random states.
"""

import hashlib

import numpy as np


def derive_seed(*name: int | str) -> int:
    """A 63-bit seed from a name. Equal names give equal seeds on every machine and in every Python version.

    The type of each part is hashed too, so that 1 and "1" are different names.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in name)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_rng(*name: int | str) -> np.random.Generator:
    """A new NumPy generator for the draws of one name."""
    return np.random.default_rng(derive_seed(*name))
