from typing import Any

from actors.errors import ActorDied
from actors.pool import GeneratorPool
from cluster.config.reading import config_of
from cluster.running.publish import Publisher
from cluster.running.turns import Turns
from tests.local_learner import LocalLearner


class Resting:
    """A generator that notes how it was told to rest, or is dead."""

    def __init__(self, name: str, alive: bool = True) -> None:
        self.name, self.alive = name, alive
        self.rests: list[str] = []

    def kill(self) -> None:
        """Its actor is gone anyway."""

    async def rest(self, in_flight: str) -> None:
        if not self.alive:
            raise ActorDied(f"{self.name}: gone")
        self.rests.append(in_flight)


def turns(learner: LocalLearner, generators: list[Any], **sections: dict) -> tuple[Turns, GeneratorPool]:
    cluster = {"colocate": True, "generators": 2, "learner_ranks": 2, **sections.pop("cluster", {})}
    tree = {"world": {"name": "addition"}, "cluster": cluster, "sync": {"in_flight": "finish"}, **sections}
    pool, config = GeneratorPool(generators), config_of(tree)
    return Turns(learner, Publisher(learner, pool, config, "gloo", print), config), pool


async def test_on_shared_gpus_the_engines_rest_for_the_learner_and_the_learner_gives_back_for_them() -> None:
    learner, generators = LocalLearner(2), [Resting("generator-0"), Resting("generator-1")]
    taken, _ = turns(learner, generators)
    assert taken.shared
    await taken.of_learner()
    assert [each.rests for each in generators] == [["finish"], ["finish"]]
    assert learner.calls == []
    await taken.of_engines()
    assert learner.calls == ["free_cache"]


async def test_engines_with_gpus_of_their_own_never_rest() -> None:
    learner, generators = LocalLearner(2), [Resting("generator-0"), Resting("generator-1")]
    taken, _ = turns(learner, generators, cluster={"colocate": False})
    await taken.of_learner()
    await taken.of_engines()
    assert not taken.shared
    assert generators[0].rests == []
    assert learner.calls == []


async def test_a_run_that_samples_nothing_has_no_turns() -> None:
    stored = {"world": {"name": ""}, "model": {"path": "m"}, "data": {"stored": "groups.parquet"}}
    taken, _ = turns(LocalLearner(2), [], **stored)
    await taken.of_learner()
    assert not taken.shared


async def test_a_generator_that_has_died_is_taken_out_and_the_others_rest() -> None:
    generators = [Resting("generator-0", alive=False), Resting("generator-1")]
    taken, pool = turns(LocalLearner(2), generators)
    await taken.of_learner()
    assert list(pool.alive) == ["generator-1"]
    assert generators[1].rests == ["finish"]
    generators[1].alive = False
    await taken.of_learner()  # it is the next sync that needs a generator
    assert not pool.alive
