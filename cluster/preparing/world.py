"""Writes the built-in world out as ordinary files, and points a run at them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.data.world import ALPHABET, write_addition
from cluster.config.run_config import RunConfig

WORLD_PROMPTS, WORLD_WORKED = 20_000, 30_000  # rows of prompts.jsonl and of worked.jsonl


def write_world(config: RunConfig, folder: Path, anew: bool = True) -> RunConfig:
    """Writes the built-in world into a folder and points the config at it; without a world, gives it back.

    Args:
        config: the run.
        folder: where `world` goes.
        anew: False where it has been written before.
    """
    if not config.world.name:
        return config
    world, seed = folder / "world", config.run.seed
    with _quiet():  # libraries that load with torch, and with the first model, say that this machine has no GPU
        from learner.models.tiny import CONTROL_TOKENS, write_tiny_model

        if anew:
            write_tiny_model(world / "model", alphabet=ALPHABET, seed=seed)
    if anew:
        sizes = {"prompts": WORLD_PROMPTS, "worked": WORLD_WORKED}
        write_addition(world, digits=config.world.digits, slips=config.world.slips, seed=seed, **sizes)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": str(world / "model"), "control_tokens": CONTROL_TOKENS}),
            "data": config.data.model_copy(update={"path": str(world / "prompts.jsonl")}),
            "warmup": config.warmup.model_copy(update={"path": str(world / "worked.jsonl")}),
            "eval": config.eval.model_copy(update={"path": str(world / "heldout.jsonl")}),
        }
    )


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
