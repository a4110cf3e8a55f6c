"""The soak: what it reads of processes, and the slopes that it judges."""

import os

from tests.faults.processes import Family
from tests.faults.soak import BOUNDS, RAYS_MEMORY, STORE, Sample, Slope, part_of, rows, slopes
from tests.faults.usage import REST, held_by, kind_of

FLAT = {"memory": 100.0, "resident": 150.0, "files": 20.0, "threads": 5.0}


def look(step: int, **memory: float) -> Sample:
    """One look at parts of which only the memory differs."""
    held = {part.replace("_", " "): FLAT | {"memory": mib} for part, mib in memory.items()}
    return Sample(step=step, seconds=step / 2, held=held | {STORE: {"memory": 1.0}})


def slope_of(found: list[Slope], part: str, what: str = "memory") -> Slope:
    return next(each for each in found if (each.part, each.what) == (part, what))


def test_a_slope_is_of_the_steps_after_the_warm_up_and_told_for_a_hundred() -> None:
    samples = [
        look(step, driver=500.0 if step < 300 else 100.0 + step / 50, rank_0=100.0) for step in range(0, 1001, 10)
    ]
    found = slopes(samples)
    assert round(slope_of(found, "driver").slope, 6) == 2.0
    assert not slope_of(found, "driver").holds
    assert slope_of(found, "rank 0").holds
    assert abs(slope_of(found, "driver", "files").slope) + abs(slope_of(found, STORE).slope) < 1e-9
    assert {each.what for each in found if each.part == STORE} == {"memory"}


def test_what_is_not_seen_all_the_time_has_no_slope_and_rays_processes_have_a_bound_of_their_own() -> None:
    samples = [look(step, raylet=50.0, **({"verifier_0": 40.0} if step < 500 else {})) for step in range(0, 1001, 100)]
    found = slopes(samples)
    assert {each.part for each in found} == {"raylet", STORE}
    assert slope_of(found, "raylet").bound == RAYS_MEMORY
    assert slope_of(found, STORE).bound == BOUNDS["memory"]


def test_page_and_table_tell_what_grows_too_fast() -> None:
    samples = [look(step, filter_0=100.0 + step) for step in range(0, 101, 10)]
    found = slopes(samples)
    part = part_of(samples, found)
    assert [figure.name for figure in part.figures if figure.met is False] == ["filter 0: memory"]
    assert [line[-1] for line in rows(found) if line[0] == "filter 0: memory"] == ["NO"]
    assert part.charts[0].lines["filter 0"][-1] == (100, 200.0)


def test_processes_are_told_apart_by_what_they_call_themselves() -> None:
    assert kind_of("ray::Generator.rollout") == "generator"
    assert kind_of("VLLM::EngineCore") == "engine"
    assert kind_of("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/x") == "Ray's head"
    assert kind_of("ray::IDLE") == kind_of("python -m y") == REST


def test_this_process_holds_memory_handles_and_a_thread() -> None:
    family = Family()
    family.add(os.getpid())
    held = held_by(family, os.getpid())["driver"]
    assert held.resident >= held.memory > 1
    assert held.files >= 3
    assert held.threads >= 1
