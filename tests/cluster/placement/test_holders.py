from cluster.placement.holders import Holding, _about, _named, in_words
from cluster.placement.node import Node

NODE = Node(total={"CPU": 32.0, "GPU": 8.0}, free={"CPU": 4.0, "GPU": 1.0})


def held(who: str, gpus: float, cpus: float) -> Holding:
    return Holding(node="n", who=who, resources={"GPU": gpus, "CPU": cpus})


def test_who_holds_most_of_a_node_is_named_first_and_the_rest_is_held_by_others() -> None:
    said = in_words(NODE, [held("job 2", 1, 2), held("job 3", 2, 3), held("job 2", 3, 0.5)])
    assert said == ("job 2: 4 GPUs and 2.5 CPUs", "job 3: 2 GPUs and 3 CPUs", "held by others: 1 GPUs and 22.5 CPUs")
    assert in_words(NODE, [held("job 2", 7, 28)]) == ("job 2: 7 GPUs and 28 CPUs",)


def test_a_job_is_named_by_its_metadata_or_its_command_and_a_run_of_winnow_by_its_group() -> None:
    assert _about({"job_name": "raysubmit_1"}, "raysubmit_1", "python  train.py") == 'raysubmit_1 "python train.py"'
    assert _about({"winnow_run": "math", "job_name": "raysubmit_1"}, "raysubmit_1", "x") == 'raysubmit_1 "math"'
    assert _about({}, None, "y" * 100) == f'"{"y" * 60}..."'
    assert _named("02", {"02": '"mine"'}, "winnow demo 0a1b2c3d") == "job 02 \"mine\" the run 'demo'"
    assert _named("", {}, "theirs") == "group 'theirs'"
    assert _named("", {}, "") == "a job"
