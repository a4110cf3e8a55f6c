"""The later rounds: a step is worth what the value model of the last round says."""

import asyncio
import threading
from pathlib import Path

from rest_mcts_search import searched

from rewards import Case

VALUES = Path(__file__).parents[3] / "runs/papers/rest_mcts/values"
ONE = threading.Lock()  # at a time: the first one reads the model


def value_of(question, response):
    """The value of the last step of a response; it takes a moment."""
    from rewards.models.scoring import ProcessSettings, process  # for torch, which nothing else here needs

    case = Case(response=response, reference="", question=question)
    with ONE:
        (found,) = process([case], ProcessSettings(path=str(VALUES), device="cpu", aggregate="last"))
    return found.reward or 0.0


async def play(task, talk):
    async def value(node):
        return await asyncio.to_thread(value_of, task.question, node.seat.turn.text)

    return await searched(task, talk, value=value)
