"""The first round: nobody knows values yet, and a step is worth what its completion is."""

from rest_mcts_search import searched


async def play(task, talk):
    return await searched(task, talk, completions=1)
