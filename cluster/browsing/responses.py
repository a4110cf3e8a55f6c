"""One group as the page shows it: its responses with their verdicts, and a response token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from actors.arrow import SCHEMA, group_of
from actors.types import Group
from cluster.browsing.advantages import Crediting, advantages_of
from cluster.browsing.texts import TokenTexts

CARD_TEXT = 6000  # characters of a response that come with its group
PAGE_TOKENS = 4000  # of a response, at once
LEAD = 16  # tokens in front of these that are decoded with them, as a character may be made of several
PAGE_TEXT = 20000  # characters, where there are no tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A group with what the recorder added to it."""

    group: Group
    step: int
    rejected: tuple[str, ...]  # of each response, why it was not trained on; "" where it was


def stored_of(rows: pa.Table) -> Stored:
    """From the rows of a group, of which there is at least one."""
    batch = rows.select(SCHEMA.names).combine_chunks().to_batches()[0]
    group = group_of(batch)
    reasons = rows["rejected"].to_pylist()
    return Stored(
        group=group,
        step=int(rows["step"][0].as_py()),
        rejected=tuple(str(reasons[places.start]) for places in group.responses),
    )


def described(stored: Stored, crediting: Crediting) -> dict[str, Any]:
    """A group with its responses, their texts cut to CARD_TEXT characters."""
    group, advantages = stored.group, advantages_of(stored.group, stored.rejected, crediting)
    responses = []
    for number, places in enumerate(group.responses):
        trajectories = group.trajectories[places.start : places.stop]
        first, verdict, text = trajectories[0], group.verdicts[places.start], text_of(stored, number)
        versions = np.concatenate([t.versions[t.sampled] for t in trajectories])
        logprobs = np.concatenate([t.logprobs[t.sampled] for t in trajectories]).astype(np.float64)
        known = logprobs[np.isfinite(logprobs)]
        responses.append(
            {
                "number": number,
                "episode": first.episode,
                "seat": first.seat,
                "siblings": first.siblings,
                "rejected": stored.rejected[number],
                "outcome": str(verdict.outcome),
                "score": number_or_none(verdict.score),
                "why": verdict.why,
                "parts": {name: number_or_none(value) for name, value in verdict.parts.items()},
                "finish": str(trajectories[-1].finish),
                "tokens": int(sum(t.new_tokens for t in trajectories)),
                "turns": sum(len(runs) for runs in (_turns(t.sampled) for t in trajectories)),
                "versions": [int(versions.min()), int(versions.max())] if versions.size and versions.max() >= 0 else [],
                "logprob": float(known.mean()) if known.size else None,
                "advantage": advantages.values[number],
                "text": text[:CARD_TEXT],
                "characters": len(text),
                "spans": [vars(span) for span in verdict.span_rewards][:200],
            }
        )
    prompt = group.prompt
    return {
        "group": group.id,
        "step": stored.step,
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "question": prompt.question,
        "reference": prompt.reference,
        "reward": prompt.reward,
        "greedy": number_or_none(group.greedy),
        "prompt_tokens": int(prompt.tokens.size),
        "advantages": advantages.why,
        "responses": responses,
    }


def text_of(stored: Stored, number: int) -> str:
    """All that the policy said in a response."""
    places = stored.group.responses[number]
    return "".join(stored.group.trajectories[place].text for place in places)


def token_page(stored: Stored, number: int, start: int, texts: TokenTexts) -> dict[str, Any]:
    """The tokens of a response from place `start` on, counted over all of its streams, or its text where there is no
    tokenizer."""
    if texts.tokenizer is None:
        text = text_of(stored, number)
        return {"tokens": None, "why": texts.why, "text": text[start : start + PAGE_TEXT], **_next(start, text)}
    group = stored.group
    places = group.responses[number]
    sizes = [group.trajectories[place].tokens.size for place in places]
    streams = np.repeat(np.arange(len(sizes)), sizes)[start : start + PAGE_TOKENS]
    trajectories = [group.trajectories[place] for place in places]
    columns = [
        np.concatenate([getattr(t, name) for t in trajectories])
        for name in ("tokens", "sampled", "logprobs", "versions")
    ]
    ids, sampled, logprobs, versions = (column[start : start + PAGE_TOKENS] for column in columns)
    rewards = np.concatenate(
        [group.span_rewards[place] for place in places] if group.span_rewards else [np.full(sum(sizes), np.nan)]
    )[start : start + PAGE_TOKENS]
    begin = max(0, start - LEAD)
    following = start + PAGE_TOKENS
    return {
        "why": texts.why,
        "start": start,
        "total": sum(sizes),
        "next": following if following < sum(sizes) else None,
        "tokens": {
            "ids": ids.tolist(),
            "texts": texts.of(columns[0][begin : start + PAGE_TOKENS].tolist())[start - begin :],
            "sampled": sampled.astype(int).tolist(),
            "streams": streams.tolist(),
            "logprobs": [
                number_or_none(value) if own else None
                for value, own in zip(logprobs.tolist(), sampled.tolist(), strict=True)
            ],
            "versions": versions.tolist(),
            "rewards": [number_or_none(value) for value in rewards.tolist()] if group.span_rewards else [],
        },
    }


def number_or_none(value: float | None) -> float | None:
    """A number that JSON has; None for what is none or not finite."""
    return float(value) if value is not None and np.isfinite(value) else None


def _next(start: int, text: str) -> dict[str, Any]:
    following = start + PAGE_TEXT
    return {"start": start, "total": len(text), "next": following if following < len(text) else None}


def _turns(sampled: np.ndarray) -> Sequence[int]:
    """Where the runs of sampled tokens begin."""
    beginnings: list[int] = np.flatnonzero(np.diff(sampled.astype(np.int8), prepend=0) == 1).tolist()
    return beginnings
