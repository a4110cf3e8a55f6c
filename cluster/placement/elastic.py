"""Room in the cluster for what a run can do without: a generator with verifiers of its own, which come and go together.

Each such unit has a placement group of its own, with one bundle, so that it lies on one node and goes with it.
"""

import asyncio
import math
from dataclasses import dataclass

from ray.util.placement_group import PlacementGroup, remove_placement_group

from cluster.placement.layout import Bundle, Layout
from cluster.placement.placing import is_placed, reserve
from cluster.placement.sites import Site

SECONDS_BETWEEN = 2.0  # looks at whether the cluster has given a bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What an elastic generator takes, its verifiers included: of each as much as those of the layout have."""

    generator: tuple[float, float]  # CPUs and GPUs
    verifier: tuple[float, float]
    verifiers: int  # so that there are as many for each generator as in the layout
    site: Site  # of the generator: its verifiers come and go with its node

    @classmethod
    def like(cls, layout: Layout, generators: int) -> "Unit":
        """As those of a layout, which has so many generators."""
        return cls(
            generator=layout.share_of("generator-0"),
            verifier=layout.share_of("verifier-0"),
            verifiers=math.ceil(layout.verifiers / generators),
            site=layout.bundle_of("generator-0").site,
        )

    @property
    def bundle(self) -> Bundle:
        """What it takes of one node."""
        cpus = round(self.generator[0] + self.verifiers * self.verifier[0], 3)
        return Bundle(actors=("generator",), cpus=cpus, gpus=self.generator[1], site=self.site)


async def found_room(unit: Unit, label: str) -> PlacementGroup:
    """Waits until the cluster has room for a unit; one that can grow is asked to by that."""
    group = reserve([unit.bundle], label, "STRICT_PACK")
    try:
        while not is_placed(group):
            await asyncio.sleep(SECONDS_BETWEEN)
    except BaseException:
        remove_placement_group(group)
        raise
    return group
