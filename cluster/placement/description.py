"""The plan of a run in words, printed before it starts."""

from cluster.placement.layout import Layout
from cluster.preparing.preflight import Prepared
from learner.methods.formula import objective_line
from learner.settings import LearnerSettings


def describe(prepared: Prepared, layout: Layout) -> str:
    """The plan of a run in words: sizes and where everything goes."""
    config, rollout = prepared.config, prepared.config.rollout
    cluster, passes = config.cluster, config.algorithm.passes
    updates = config.run.steps * config.learner.updates_per_step * passes
    lines = [f"{len(prepared.stored)} stored groups"] if prepared.stored is not None else []
    lines += [
        f"{len(prepared.prompts)} prompts of at most {max(p.tokens.size for p in prepared.prompts)} tokens"
        + (f", {prepared.left_out} longer ones left out" if prepared.left_out else ""),
        f"{rollout.groups_per_step} groups x {rollout.group_size} responses = "
        f"{rollout.groups_per_step * rollout.group_size} responses a step, over {cluster.learner_ranks} learner "
        f"ranks at ZeRO {config.learner.zero_stage}, in {config.learner.updates_per_step} updates of micro-batches "
        f"of {config.learner.micro_batch_tokens} tokens" + (f", {passes} passes" if passes > 1 else ""),
        f"{config.run.steps} steps = {updates} optimizer updates of "
        f"{config.learner.algorithm}, at most {rollout.max_staleness} versions stale: "
        f"{(rollout.max_staleness + 1) * rollout.groups_per_step} groups at a time",
        f"learner and generators compute in {config.model.dtype}, "
        + ("on GPUs" if layout.on_gpu else "on CPUs")
        + f"; learning rate {config.learner.lr:g}, risen over {config.learner.lr_warmup} updates",
        f"objective: {objective_line(config.algorithm)}",
        f"{layout.cpus:g} CPUs and {layout.gpus:g} GPUs:",
    ]
    if config.learner.adapter.rank:
        lines.insert(-1, _adapter(prepared))
    lines += [f"  {' + '.join(b.actors):<32} {b.cpus:g} CPUs, {b.gpus:g} GPUs" for b in layout.bundles]
    return "\n".join(lines)


def _adapter(prepared: Prepared) -> str:
    """What is trained and sent where an adapter is trained in place of the weights."""
    learner = prepared.config.learner
    adapter, count = learner.adapter, prepared.adapter_parameters / 1e6
    targets = "all linear layers but the head" if adapter.targets == "linear" else ", ".join(adapter.targets)
    low = learner.lr <= LearnerSettings().lr
    return (
        f"an adapter of rank {adapter.rank} in {targets} is trained, {count:.3g} million parameters: generators get "
        "whole weights with the adapter merged, checkpoints hold the adapter alone"
        + (f"; learner.lr = {learner.lr:g} suits whole weights, an adapter takes about ten times as much" * low)
    )
