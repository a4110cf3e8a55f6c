"""Sequences that begin alike, at random: prompts, answers that go on from them, turns that go on from answers."""

import numpy as np
from hypothesis import strategies as st

from learner.batches.types import Sample

TOKENS = st.integers(0, 3)  # few, so that answers begin alike too


def sample(before: list[int], said: list[int], after: list[int] | None = None) -> Sample:
    """A sequence of which `said` is trained."""
    tokens = np.array([*before, *said, *(after or [])], np.int32)
    places = np.arange(tokens.size)
    trained = (places >= len(before)) & (places < len(before) + len(said))
    return Sample(tokens=tokens, trained=trained, sampler=None, advantage=1.0, weight=1.0)


@st.composite
def trees(draw: st.DrawFn) -> list[Sample]:
    """Several prompts, some of which begin alike, with several answers each, some of which go on over a second turn."""
    texts = [draw(st.lists(TOKENS, min_size=1, max_size=8)) for _ in range(draw(st.integers(1, 3)))]
    found = []
    for number, text in enumerate(texts):
        prompt = texts[0] + text if number and draw(st.booleans()) else text
        for said in draw(st.lists(st.lists(TOKENS, min_size=1, max_size=6), min_size=1, max_size=6)):
            found.append(sample(prompt, said, draw(st.lists(TOKENS, max_size=2))))
            if draw(st.booleans()):
                found.append(sample([*prompt, *said, 1], draw(st.lists(TOKENS, min_size=1, max_size=4))))
    return found
