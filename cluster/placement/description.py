"""The plan of a run in words, printed before it starts."""

from itertools import groupby

from cluster.placement.layout import Bundle, Layout
from cluster.preparing.preflight import Prepared
from learner.methods.formula import objective_line


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
    if cluster.colocate and config.samples:
        lines.append("  generators rest while the learner ranks beside them train")
    lines += bundle_lines(layout)
    return "\n".join(lines)


def bundle_lines(layout: Layout) -> list[str]:
    """A line for each bundle, or for several of one kind and size that follow each other."""
    lines = []
    for (kind, cpus, gpus), alike in groupby(layout.bundles, key=lambda b: (_kinds(b), b.cpus, b.gpus)):
        bundles = list(alike)
        first, last, pair = bundles[0].actors, bundles[-1].actors, " + " in kind
        span = " + ".join(first) if pair else _span(first[0], first[-1])
        if len(bundles) > 1:
            span = f"{span} to {' + '.join(last)}" if pair else _span(first[0], last[-1])
        many = f", {len(bundles)} times" if len(bundles) > 1 else ""
        lines.append(f"  {span:<32} {cpus:g} CPUs, {gpus:g} GPUs{many}")
    return lines


def _kinds(bundle: Bundle) -> str:
    return " + ".join(dict.fromkeys(name.rpartition("-")[0] for name in bundle.actors))


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"
