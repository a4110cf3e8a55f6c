"""What a policy has answered in an evaluation, and pairs of it for reward models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cluster.config.run_files import TRAJECTORIES
from cluster.evaluating.answers import recorded_groups, texts_in

MOST = 4  # responses of a kind in the pairs of a question


class Response(NamedTuple):
    """A response with its verdict."""

    text: str
    right: bool
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A question and its responses that have a verdict and are not empty."""

    row: int  # of its file, from 0
    question: str
    said: tuple[Response, ...]

    @property
    def right(self) -> list[str]:
        """Right responses, each text once, in the order in which they were sampled."""
        return list(dict.fromkeys(one.text for one in self.said if one.right))

    @property
    def wrong(self) -> list[str]:
        """Wrong responses, each text once, the one with the highest score first."""
        falling = sorted((one for one in self.said if not one.right), key=lambda one: -one.score)
        return list(dict.fromkeys(one.text for one in falling))

    @property
    def best(self) -> str:
        """The response with the highest score; "" where there is none."""
        return max(self.said, key=lambda one: one.score).text if self.said else ""


def answered(evaluation: Path, benchmark: str = "") -> list[Answered]:
    """The questions of an evaluation by their rows, as `winnow eval` leaves them in its folder.

    Args:
        evaluation: its folder.
        benchmark: whose questions; "" where there is one alone.
    """
    found = []
    for group in recorded_groups(evaluation / TRAJECTORIES):
        verdicts = [group.verdicts[places.start] for places in group.responses]
        said = tuple(
            Response(text, (verdict.score or 0.0) > 0, verdict.score)
            for text, verdict in zip(texts_in(group), verdicts, strict=True)
            if verdict.score is not None and text.strip()
        )
        named, _, row = group.prompt.id.rpartition("/")
        if named.endswith(f"/{benchmark}") or not benchmark:
            found.append(Answered(row=int(row), question=group.prompt.question, said=said))
    return sorted(found, key=lambda each: each.row)


def pairs(questions: Sequence[Answered], worked: Sequence[str]) -> list[dict[str, Any]]:
    """Rows for a reward model: right responses and the wrong ones that scored highest. A question without a right
    response has its worked answer for one; without a wrong one it makes no row.

    Args:
        questions: with their responses.
        worked: a right answer to each row of the file.
    """
    rows = []
    for each in questions:
        chosen = each.right or [worked[each.row]]
        rejected = [text for text in each.wrong if text not in chosen]
        if rejected:
            rows.append({"prompt": each.question, "chosen": chosen[:MOST], "rejected": rejected[:MOST]})
    return rows
