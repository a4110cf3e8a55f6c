"""The plan of a run in words, printed before it starts."""

from cluster.config.run_config import RunConfig
from cluster.placement.layout import Bundle, Layout
from cluster.preparing.memory import memory_lines
from cluster.preparing.preflight import Prepared
from learner.methods.formula import objective_line
from learner.settings import LearnerSettings


def describe(prepared: Prepared, layout: Layout) -> str:
    """The plan of a run in words: sizes, where everything goes, and what it holds of memory there."""
    config = prepared.config
    lines = [f"{len(prepared.stored)} stored groups"] if prepared.stored is not None else []
    lines.append(
        f"{len(prepared.prompts)} prompts of at most {max(p.tokens.size for p in prepared.prompts)} tokens"
        + (f", {prepared.left_out} longer ones left out" if prepared.left_out else "")
    )
    lines += run_lines(config, layout)
    if config.learner.adapter.rank:
        lines.append(_adapter(prepared))
    return "\n".join([*lines, *layout_lines(layout), *memory_lines(prepared.memory, config)])


def run_lines(config: RunConfig, layout: Layout) -> list[str]:
    """What a run does, whatever its data."""
    rollout, learner, cluster, passes = config.rollout, config.learner, config.cluster, config.algorithm.passes
    updates = config.run.steps * learner.updates_per_step * passes
    return [
        f"{rollout.groups_per_step} groups x {rollout.group_size} responses = "
        f"{rollout.groups_per_step * rollout.group_size} responses a step, over {cluster.learner_ranks} learner "
        f"ranks at ZeRO {learner.zero_stage}, in {learner.updates_per_step} updates of micro-batches "
        f"of {learner.micro_batch_tokens} tokens" + (f", {passes} passes" if passes > 1 else ""),
        f"{config.run.steps} steps = {updates} optimizer updates of "
        f"{learner.algorithm}, at most {rollout.max_staleness} versions stale: "
        f"{(rollout.max_staleness + 1) * rollout.groups_per_step} groups at a time",
        f"learner and generators compute in {config.model.dtype}, "
        + ("on GPUs" if layout.on_gpu else "on CPUs")
        + f"; {config.model.attention} attention, activations {'computed again' if config.model.checkpointing else 'kept'}"
        + f"; learning rate {learner.lr:g}, risen over {learner.lr_warmup} updates",
        f"objective: {objective_line(config.algorithm)}",
    ]


def layout_lines(layout: Layout) -> list[str]:
    """Where everything goes; bundles that differ in numbers only share a line."""
    lines = [f"{layout.cpus:g} CPUs and {layout.gpus:g} GPUs:"]
    alike: dict[tuple[str, float, float], list[Bundle]] = {}
    for bundle in layout.bundles:
        kind = " + ".join(dict.fromkeys(actor.rstrip("0123456789") for actor in bundle.actors))
        alike.setdefault((f"{kind} {len(bundle.actors)}", bundle.cpus, bundle.gpus), []).append(bundle)
    for bundles in alike.values():
        first, count = bundles[0], len(bundles)
        last = f" ... {_actors(bundles[-1])}" if count > 1 else ""
        times = f"{count} x " if count > 1 else ""
        lines.append(f"  {_actors(first) + last:<50} {times}{first.cpus:g} CPUs, {first.gpus:g} GPUs")
    return lines


def _actors(bundle: Bundle) -> str:
    """Names of the actors of a bundle; the first and the last of many of one kind."""
    names = bundle.actors
    return " + ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]}"


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
