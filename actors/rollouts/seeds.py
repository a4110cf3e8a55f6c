"""Seeds that derive from a text, so that they depend neither on the order of arrival, nor on an engine or a restart."""

import hashlib


def seed_of(key: str) -> int:
    """The seed of a key, 48 bits."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest())


def turn_seed(seed: int, turn: int) -> int:
    """The sampling seed of a turn, counted from 0: that of the episode for the first, others derive from it; attempts
    at what was made in an episode count down from -1."""
    return seed_of(f"{seed}/{turn}") if turn else seed
