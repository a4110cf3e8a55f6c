"""The plan of a run in words, printed before it starts."""

from collections.abc import Sequence
from itertools import groupby

from actors.settings import DataSettings
from cluster.config.errors import shown
from cluster.config.run_config import RunConfig
from cluster.placement.elastic import Unit
from cluster.placement.layout import EVALUATOR, Bundle, Layout
from cluster.preparing.memory import memory_lines
from cluster.preparing.preflight import Prepared
from cluster.reporting.words import counted
from learner.methods.formula import objective_line
from learner.settings import LearnerSettings
from rewards.own import OwnSettings


def describe(prepared: Prepared, layout: Layout) -> str:
    """The plan of a run in words: sizes, where everything goes, and what it holds of memory there."""
    config = prepared.config
    lines = [counted(len(prepared.stored), "stored group")] if prepared.stored is not None else []
    lines.append(
        f"{counted(len(prepared.prompts), 'prompt')} of at most "
        f"{counted(max(p.tokens.size for p in prepared.prompts), 'token')}"
        + (f", {counted(prepared.left_out, 'longer one')} left out" if prepared.left_out else "")
    )
    lines += run_lines(config, layout)
    if config.learner.adapter.rank:
        lines.append(_adapter(prepared))
    return "\n".join([*lines, *layout_lines(config, layout), *memory_lines(prepared.memory, config)])


def run_lines(config: RunConfig, layout: Layout) -> list[str]:
    """What a run does, whatever its data."""
    rollout, learner, cluster, passes = config.rollout, config.learner, config.cluster, config.algorithm.passes
    updates, again = config.run.steps * learner.updates_per_step * passes, bool(config.model.checkpointing)
    return [
        f"{counted(rollout.groups_per_step, 'group')} x {counted(rollout.group_size, 'response')} = "
        f"{counted(rollout.groups_per_step * rollout.group_size, 'response')} a step, over "
        f"{counted(cluster.learner_ranks, 'learner rank')} at ZeRO {learner.zero_stage}, in "
        f"{counted(learner.updates_per_step, 'update')} of micro-batches of {learner.micro_batch_tokens} tokens"
        + (f", {passes} passes" if passes > 1 else ""),
        f"{counted(config.run.steps, 'step')} = {counted(updates, 'optimizer update')} of {learner.algorithm}, at most "
        f"{counted(rollout.max_staleness, 'version')} stale: "
        f"{counted((rollout.max_staleness + 1) * rollout.groups_per_step, 'group')} at a time",
        f"learner and generators compute in {config.model.dtype}, "
        + ("on GPUs" if layout.on_gpu else "on CPUs")
        + f"; attention by {config.model.attention}, activations {'computed again' * again or 'kept'}"
        + f"; learning rate {learner.lr:g}, risen over {counted(learner.lr_warmup, 'update')}",
        f"objective: {objective_line(config.algorithm)}",
        *reward_lines(config),
        *_text_lines(config),
    ]


def _text_lines(config: RunConfig) -> list[str]:
    """What stands around prompts and what ends responses, where the run says it; a line break is \\n."""
    lines, template, stop = [], config.data.template, config.rollout.stop
    if template != DataSettings().template:
        lines.append(f"prompts stand in {shown(template)}")
    if stop:
        lines.append(f"responses end at {', '.join(map(shown, stop))} too")
    return lines


def reward_lines(config: RunConfig) -> list[str]:
    """What grades responses, and a warning where a section of a reward does not."""
    if not config.samples:
        return []
    name, column = config.reward.name, config.data.reward_column
    lines = [f"graded by the reward {_reward(name, config)}"]
    if column:
        lines = [f"graded by the reward that column {column!r} of each row names"]
    if config.rollout.environment:
        lines[0] += ", where the environment gives no score of its own"
    return lines + [
        f"warning: [reward.{unused}] grades nothing: set reward.name = {unused!r} (now {name!r}), or remove the section"
        for unused in config.unused_rewards
    ]


def _reward(name: str, config: RunConfig) -> str:
    """A reward with its parts and, of an own reward, its file."""
    parts = [
        f"{part} ({settings.file})" if isinstance(settings, OwnSettings) else part
        for part, settings in config.reward.leaves(name).items()
    ]
    return parts[0] if name in config.reward.leaves(name) else f"{name} of {', '.join(parts)}"


def layout_lines(config: RunConfig, layout: Layout) -> list[str]:
    """Where everything goes."""
    lines = [f"{counted(layout.cpus, 'CPU')} and {counted(layout.gpus, 'GPU')}:"]
    if config.cluster.colocate and config.samples:
        lines.append("  generators rest while the learner ranks beside them train")
    return [*lines, *bundle_lines(layout), *_elastic_lines(config, layout), *_evaluation_lines(config, layout)]


def bundle_lines(layout: Layout) -> list[str]:
    """A line for each bundle, or for several of one kind and size that follow each other."""
    lines, several = [], len({bundle.node for bundle in layout.bundles}) > 1
    for (kind, cpus, gpus, _), alike in groupby(layout.bundles, key=lambda b: (_kinds(b), b.cpus, b.gpus, b.site)):
        bundles = list(alike)
        first, last, pair = bundles[0].actors, bundles[-1].actors, " + " in kind
        span = " + ".join(first) if pair else _span(first[0], first[-1])
        if len(bundles) > 1:
            span = f"{span} to {' + '.join(last)}" if pair else _span(first[0], last[-1])
        many = f", {len(bundles)} times" if len(bundles) > 1 else ""
        where = _where(bundles) if several else ""
        only = f", only with {first_site}" if (first_site := str(bundles[0].site)) else ""
        lines.append(f"  {span:<32} {counted(cpus, 'CPU')}, {counted(gpus, 'GPU')}{many}{where}{only}")
    return lines


def _elastic_lines(config: RunConfig, layout: Layout) -> list[str]:
    """What a run adds while it goes on."""
    cluster = config.cluster
    more = cluster.most_generators - cluster.fewest_generators
    if not (more and config.samples):
        return []
    unit = Unit.like(layout, cluster.fewest_generators)
    takes = ", ".join(counted(unit.bundle.resources.get(kind, 0.0), kind) for kind in ("CPU", "GPU"))
    verifiers = counted(unit.verifiers, "verifier")
    return [
        f"  while the cluster has room, up to {counted(more, 'generator')} more, each with {verifiers} on one node: "
        f"{takes} each"
    ]


def _evaluation_lines(config: RunConfig, layout: Layout) -> list[str]:
    """What evaluation costs."""
    if not config.eval.every:
        return []
    often = "every step" if config.eval.every == 1 else f"every {config.eval.every} steps"
    if not config.evaluators:
        return [
            f"  evaluation {often} on the run's generators, between steps: training waits for all of it "
            "(eval.generators has others do it)"
        ]
    cpus, gpus = (config.evaluators * share for share in layout.share_of(f"{EVALUATOR}0"))
    own = counted(config.evaluators, "generator")
    return [
        f"  evaluation {often} on {own} more ({counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}), while training goes "
        "on, which waits for one more sync, and for an evaluation that is not over when the next is due"
    ]


def _kinds(bundle: Bundle) -> str:
    return " + ".join(dict.fromkeys(name.rpartition("-")[0] for name in bundle.actors))


def _where(bundles: Sequence[Bundle]) -> str:
    nodes = dict.fromkeys(bundle.node for bundle in bundles)
    return f", on {len(nodes)} nodes" if len(nodes) > 1 else f", on {next(iter(nodes))}"


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


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
