"""Every random draw comes from a seed that names what it is for.

A name such as (run seed, "rollout", stage, step, row) is hashed to a number, so that a draw depends on
nothing but its name: not on what was drawn before it, nor on the batch that it happened to be part of.
"""

import hashlib

import numpy as np


def derive_seed(*name: int | str) -> int:
    """A 63-bit seed from a name; equal names give equal seeds on every machine and Python version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in name)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_rng(*name: int | str) -> np.random.Generator:
    """A NumPy generator of its own for one named draw."""
    return np.random.default_rng(derive_seed(*name))
