"""What a run can only go on with: the data that it was given, and the shape of its learner."""

import hashlib
from collections.abc import Iterable

import numpy as np

from actors.data.stored import StoredGroups
from actors.types import Prompt
from cluster.config.errors import ConfigError
from cluster.preparing.preflight import Prepared
from cluster.running.state import RunInputs


def inputs_of(prepared: Prepared) -> RunInputs:
    """Of a run whose settings are settled."""
    config, stored = prepared.config, prepared.stored
    return RunInputs(
        prompts=len(prepared.prompts),
        prompts_digest=_digest(prepared.prompts),
        stored=len(stored) if stored is not None else 0,
        stored_digest=_stored_digest(stored) if stored is not None else "",
        ranks=config.cluster.learner_ranks,
        zero_stage=config.learner.stage_with(config.model.settled_dtype),
        dtype=config.model.settled_dtype,
    )


def check_inputs(then: RunInputs, now: RunInputs) -> None:
    """Whether a run that was given the former can go on with the latter.

    Raises:
        ConfigError: it cannot; the message says what to do.
    """
    for setting, what, count, digest in (
        ("data.path", "prompts", "prompts", "prompts_digest"),
        ("data.stored", "stored groups", "stored", "stored_digest"),
    ):
        if getattr(then, digest) != getattr(now, digest):
            raise ConfigError(
                f"the data of this run has changed since its checkpoint: {getattr(then, count)} {what} then, "
                f"{getattr(now, count)} now, or others. It goes on in the order of its own: put the files back as they "
                f"were ({setting} may name another place), or start a new run"
            )
    if then.dtype != now.dtype:
        raise ConfigError(
            f"this run trained weights in {then.dtype}, and here they would be {now.dtype}: set model.dtype = "
            f"{then.dtype!r} in a new run on the checkpoint's weights, or go on where the device is as it was"
        )
    if then.zero_stage != now.zero_stage or (then.ranks != now.ranks and now.zero_stage):
        raise ConfigError(
            f"this run was trained by {then.ranks} learner ranks at ZeRO stage {then.zero_stage}, each of which wrote "
            f"its share of the optimizer, and now there are to be {now.ranks} at stage {now.zero_stage}. Go on with "
            f"cluster.learner_ranks={then.ranks}, or start a new run from the checkpoint's weights, with model.path"
        )


def _digest(prompts: Iterable[Prompt]) -> str:
    found = hashlib.sha256()
    for prompt in prompts:
        found.update(prompt.id.encode("utf-8", "surrogatepass") + b"\0")
        found.update(np.ascontiguousarray(prompt.tokens).tobytes() + b"\0")
        found.update(f"{prompt.reward}\0{prompt.reference}\0".encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _stored_digest(stored: StoredGroups) -> str:
    found = hashlib.sha256()
    for number in range(len(stored)):
        group = stored.deal(number)
        found.update(group.prompt.id.encode("utf-8", "surrogatepass") + b"\0")
        for trajectory, verdict in zip(group.trajectories, group.verdicts, strict=True):
            found.update(trajectory.tokens.tobytes() + repr(verdict.score).encode())
    return found.hexdigest()
