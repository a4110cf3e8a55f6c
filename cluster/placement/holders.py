"""Who holds what of a cluster: jobs by what they have reserved and what runs outside of that. Ray's head node knows the
placement groups; of actors, tasks and jobs its dashboard's server knows, which not every cluster has.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray._private.worker import get_dashboard_url  # the server of the cluster that is joined; Ray says it nowhere else
from ray.util.placement_group import placement_group_table
from ray.util.state import list_actors, list_jobs, list_placement_groups, list_tasks
from ray.util.state.exception import RayStateApiException

from cluster.placement.metadata import NAME, RUN
from cluster.placement.node import CPU, GPU, Node, Nodes
from cluster.reporting.logs import LOGGER

ANSWER_SECONDS = 5  # that the dashboard's server has for one question
MOST_LISTED = 10_000  # of actors or tasks; the most that Ray lists
LONGEST = 60  # characters of the command of a job that are said
NODE_ID = "ray.io/node-id"  # the label with which Ray names a node


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one job holds of one node."""

    node: str  # its id
    who: str
    resources: Mapping[str, float]


def with_holders(nodes: Nodes) -> Nodes:
    """The nodes, with who holds what is not free of them."""
    held: dict[str, list[Holding]] = defaultdict(list)
    for holding in _holdings():
        held[holding.node].append(holding)
    return {
        name: replace(node, held=in_words(node, held[node.labels.get(NODE_ID, "")])) for name, node in nodes.items()
    }


def in_words(node: Node, holdings: list[Holding]) -> tuple[str, ...]:
    """Who holds what of a node, the one who holds most first; and how much of it nobody says to hold."""
    sums: dict[str, dict[str, float]] = {}
    for holding in holdings:
        before = sums.get(holding.who, {})
        sums[holding.who] = {kind: before.get(kind, 0.0) + holding.resources.get(kind, 0.0) for kind in (GPU, CPU)}
    rest = {kind: node.total.get(kind, 0.0) - node.free.get(kind, 0.0) for kind in (GPU, CPU)}
    for amounts in sums.values():
        rest = {kind: amount - amounts[kind] for kind, amount in rest.items()}
    ordered = sorted(sums.items(), key=lambda item: (-item[1][GPU], -item[1][CPU]))
    said = [f"{who}: {found}" for who, amounts in ordered if (found := _amounts(amounts))]
    unknown = _amounts({kind: amount for kind, amount in rest.items() if amount > 0.005})
    return (*said, *([f"held by others: {unknown}"] if unknown else []))


def _amounts(amounts: Mapping[str, float]) -> str:
    return " and ".join(f"{round(amount, 3):g} {kind}s" for kind, amount in amounts.items() if amount > 0)


def _holdings() -> Iterator[Holding]:
    """Of placement groups, and of actors and tasks outside of them."""
    said = _answers()
    jobs = {job.job_id: _about(job.metadata or {}, job.submission_id, job.entrypoint) for job in said.jobs}
    owners = {group.placement_group_id: group.creator_job_id for group in said.groups}
    for identity, group in placement_group_table().items():
        if group["state"] in ("CREATED", "RESCHEDULING"):
            who = _named(owners.get(identity, ""), jobs, str(group["name"]))
            for index, node in group["bundles_to_node_id"].items():
                yield Holding(node=node, who=who, resources=group["bundles"][index])
    for one in said.working:
        if not one.placement_group_id and one.required_resources and one.node_id:
            yield Holding(node=one.node_id, who=_named(one.job_id, jobs, ""), resources=one.required_resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What the dashboard's server knows, in Ray's own records; nothing where there is none."""

    jobs: Sequence[Any] = ()
    groups: Sequence[Any] = ()
    working: Sequence[Any] = ()  # actors that live, and tasks that run


def _answers() -> _Answers:
    server = get_dashboard_url()
    if not server:
        return _Answers()
    how: dict[str, Any] = {"address": f"http://{server.removeprefix('http://')}", "limit": MOST_LISTED}
    how |= {"timeout": ANSWER_SECONDS, "detail": True, "raise_on_missing_output": False}
    try:
        actors = list_actors(filters=[("state", "=", "ALIVE")], **how)
        tasks = list_tasks(filters=[("state", "=", "RUNNING"), ("type", "=", "NORMAL_TASK")], **how)
        return _Answers(jobs=list_jobs(**how), groups=list_placement_groups(**how), working=[*actors, *tasks])
    except (RayStateApiException, OSError, ValueError) as failure:
        LOGGER.debug("the dashboard's server does not say who holds the cluster: %s", failure)
        return _Answers()


def _about(metadata: Mapping[str, str], submission: str | None, command: str | None) -> str:
    named = next((metadata[key] for key in (RUN, NAME) if metadata.get(key, submission) != submission), "")
    said = named or " ".join((command or "").split())
    shown = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
    return " ".join(part for part in (submission, f'"{shown}"' if shown else "") if part)


def _named(job: str, jobs: Mapping[str, str], group: str) -> str:
    """Who holds something: the job, and the name of the placement group, in which winnow writes that of the run."""
    parts = [f"job {job}" if job else "", jobs.get(job, "")]
    run = group.removeprefix("winnow ").rpartition(" ")[0] if group.startswith("winnow ") else ""
    mine = f"the run {run!r}" if run else f"group {group!r}" if group else ""
    return " ".join(part for part in (*parts, mine) if part) or "a job"
