from cluster.config.reading import config_of
from cluster.config.sections import ClusterSettings
from cluster.placement.description import bundle_lines, layout_lines, run_lines
from cluster.placement.elastic import Unit
from cluster.placement.layout import Wanted, plan_layout
from cluster.placement.node import Node
from cluster.placement.session import layout_for

NODES = {f"node-{index}": Node.unused({"CPU": 96.0, "GPU": 8.0}) for index in range(2)}


def lines(settings: ClusterSettings, **more: tuple[str, ...]) -> list[str]:
    layout = plan_layout(Wanted(cluster=settings, on_gpu=True, **more), NODES)
    return [" ".join(line.split()) for line in bundle_lines(layout)]


def test_bundles_of_one_kind_and_size_have_one_line() -> None:
    assert lines(ClusterSettings(learner_ranks=10, generators=3, tensor_parallel=2, verifiers=64)) == [
        "generator-0 to generator-2 3 CPUs, 6 GPUs, on node-0",
        "learner-rank-0 to learner-rank-7 8 CPUs, 8 GPUs, on node-1",
        "learner-rank-8 to learner-rank-9 2 CPUs, 2 GPUs, on node-0",
        "verifier-0 to verifier-63 1 CPU, 0 GPUs, 64 times, on node-1",
        "filter 1 CPU, 0 GPUs, on node-1",
    ]


def test_pairs_that_share_a_gpu_are_shown_as_pairs() -> None:
    shared = lines(ClusterSettings(colocate=True, learner_ranks=2, generators=2, verifiers=1), judges=("safe",))
    assert shared == [
        "learner-rank-0 + generator-0 to learner-rank-1 + generator-1 2 CPUs, 1 GPU, 2 times",
        "judge-safe 1 CPU, 1 GPU",
        "verifier-0 1 CPU, 0 GPUs",
        "filter 1 CPU, 0 GPUs",
    ]


def test_what_a_run_adds_while_it_goes_on_has_a_line_of_its_own() -> None:
    config = config_of({"world": {"name": "addition"}, "cluster": {"generators": "2..16", "verifiers": 5}})
    nodes = {"node": Node.unused({"CPU": 96.0, "GPU": 8.0})}
    layout = plan_layout(Wanted(cluster=config.cluster, on_gpu=True), nodes)
    assert [bundle.actors for bundle in layout.bundles][1] == ("generator-0", "generator-1")
    assert layout_lines(config, layout)[-1] == (
        "  while the cluster has room, up to 14 generators more, each with 3 verifiers on one node: 4 CPUs, 1 GPU each"
    )
    assert Unit.like(layout, 2).bundle.resources == {"CPU": 4.0, "GPU": 1.0}


def test_what_evaluation_costs_is_said_before_the_start() -> None:
    def last(every: int, generators: int) -> str:
        tree = {"world": {"name": "addition"}, "eval": {"every": every, "generators": generators}}
        config = config_of(tree | {"cluster": {"generators": 2, "tensor_parallel": 2, "verifiers": 1}})
        return layout_lines(config, layout_for(config, NODES))[-1]

    assert last(0, 2).startswith("  filter ")
    assert last(20, 0) == (
        "  evaluation every 20 steps on the run's generators, between steps: training waits for all of it "
        "(eval.generators has others do it)"
    )
    assert last(1, 2) == (
        "  evaluation every step on 2 generators more (2 CPUs and 4 GPUs), while training goes on, which waits for "
        "one more sync, and for an evaluation that is not over when the next is due"
    )


def test_the_template_and_what_ends_responses_are_shown_letter_for_letter() -> None:
    def last(**more: dict[str, object]) -> list[str]:
        config = config_of({"world": {"name": "addition"}, **more})
        return run_lines(config, layout_for(config, NODES))[5:]

    assert last() == []
    assert last(data={"template": "{prompt}\nAnswer:"}, rollout={"stop": ["</a>", "\n", "\\n"]}) == [
        r"prompts stand in '{prompt}\nAnswer:'",
        r"responses end at '</a>', '\n', '\\n' too",
    ]
