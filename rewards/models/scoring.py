"""Rewards that a model computes: `model` scores whole responses, `process` every step of them.

A model is read once in a process, from a folder in the Hugging Face layout. Cases are scored in small batches, padded
on the right under a mask, so that the score of a case does not depend on its neighbours. What prompt and response say
is read as text: no control token in them is one (`rewards.models.plain`).
"""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rewards.models.texts import BAD, GOOD, Row, Texts, known_token, limit_of, steps
from rewards.settings import KindSettings, PathText
from rewards.shaping import AGGREGATES, sigmoid
from rewards.verdict import Case, Outcome, RewardResult, SpanReward

BATCH = 8  # sequences in one pass
NAMED_STEPS = 16  # steps whose score is a part of the result by name

WHOLE, TOKENS, _CAUSAL = "ForSequenceClassification", "ForTokenClassification", "ForCausalLM"


Device = Literal["auto", "cpu", "gpu"]  # auto: a GPU of its own where the run has GPUs


class ScoringSettings(KindSettings):
    """What rewards from a model have in common."""

    device: Device = "auto"  # where it computes in a run: a GPU of its own, or each verifier; auto: as the run


class ModelSettings(ScoringSettings):
    """[reward.model]."""

    path: PathText = ""  # the folder of a sequence-classification model


class ProcessSettings(ScoringSettings):
    """[reward.process]."""

    path: PathText = ""  # the folder of a token-classification or causal model
    aggregate: Literal["min", "max", "product", "mean", "geometric", "last", "max-change"] = "min"  # of steps' scores


def model(cases: Sequence[Case], settings: ModelSettings) -> list[RewardResult]:
    """Scores responses with the sequence-classification model in `settings.path`.

    The raw score r is the model's one label, or of two labels the last one's logit less the first one's. The reward is
    sigmoid(r), the part "raw" is r. The prompt's messages and the response are put into the tokenizer's chat template,
    or question and response behind each other where it has none. Of a text longer than the model's
    max_position_embeddings, the end is scored.

    Raises:
        ValueError: the folder holds no such model.
    """
    loaded = _load(settings.path, settings.device, WHOLE)
    asked = [number for number, case in enumerate(cases) if case.response.strip()]
    rows = [loaded.texts.whole(cases[number]) for number in asked]
    answers = dict(zip(asked, _raw_scores(loaded, rows), strict=True))
    return [_liked(answers[number]) if number in answers else _EMPTY for number in range(len(cases))]


def process(cases: Sequence[Case], settings: ProcessSettings) -> list[RewardResult]:
    """Scores every step of responses with the process reward model in `settings.path`.

    `steps` divides a response. A token-classification model reads prompt and steps, each step closed by <extra_0>
    where the tokenizer knows it, else by a line feed, and its score is sigmoid of one label, or the probability of the
    last of two, at the last token of each. A causal model is read as Math-Shepherd's (arXiv 2312.08935): each step
    closed by its tag, the score is the probability of "+" against "-" there. Of a text longer than the model's
    max_position_embeddings, the end is read, and steps before it have no score.

    Returns:
        One result for each case. The reward is `settings.aggregate` of the scores. Parts are "step_1" to "step_16",
        "steps" (their number) and "raw" (the reward); the span reward of a step lies on its last character.

    Raises:
        ValueError: the folder holds no such model.
    """
    loaded = _load(settings.path, settings.device, TOKENS, _CAUSAL)
    spans = [steps(case.response) for case in cases]
    asked = [number for number in range(len(cases)) if spans[number]]
    render = loaded.texts.tagged if loaded.kind == _CAUSAL else loaded.texts.separated
    rows = [render(cases[number], spans[number]) for number in asked]
    answers = dict(zip(asked, _step_scores(loaded, rows), strict=True))
    return [
        _aggregated(spans[number], answers[number], settings) if number in answers else _EMPTY
        for number in range(len(cases))
    ]


def check_model(settings: ModelSettings) -> None:
    """Makes sure that the folder holds a sequence classifier.

    Raises:
        ValueError: it does not.
    """
    _kind(settings.path, WHOLE)


def check_process(settings: ProcessSettings) -> None:
    """Makes sure that the folder holds a token classifier or a causal model.

    Raises:
        ValueError: it does not.
    """
    _kind(settings.path, TOKENS, _CAUSAL)


def check_messages(case: Case, settings: ModelSettings | ProcessSettings) -> None:
    """Makes sure that the model's chat template takes the messages of a case. A causal model is read without one.

    Raises:
        ValueError: it refuses them, or there is no model folder.
    """
    names = json.loads(check_folder(settings.path).read_text(encoding="utf-8")).get("architectures") or ["none"]
    texts = Texts(_tokenizer(settings.path), 1)
    if isinstance(settings, ModelSettings):
        texts.whole(case)
    elif not names[0].endswith(_CAUSAL):
        texts.separated(case, [])


def check_folder(folder: str) -> Path:
    """The config.json of a model folder.

    Raises:
        ValueError: there is none.
    """
    config = Path(folder) / "config.json"
    if not folder or not config.is_file():
        raise ValueError(f"path must be a model folder with a config.json, got {folder!r}")
    return config


# ------------------------------------------------------------------------------------- what is said of a response


_EMPTY = RewardResult(outcome=Outcome.UNPARSABLE, why="the response is empty")


def _liked(raw: float) -> RewardResult:
    if not math.isfinite(raw):
        return RewardResult(outcome=Outcome.ERROR, why=f"the model's score is {raw}")
    reward = sigmoid(raw)
    return RewardResult(
        outcome=Outcome.CORRECT if reward > 0.5 else Outcome.WRONG,
        why=f"the model's score is {raw:.4g}, a reward of {reward:.3g}; above 0.5 is correct",
        reward=reward,
        parts={"raw": raw},
    )


def _aggregated(spans: list[tuple[int, int]], scores: list[float | None], settings: ProcessSettings) -> RewardResult:
    scored = [(number, score) for number, score in enumerate(scores) if score is not None]
    values = [score for _, score in scored]
    if not all(map(math.isfinite, values)):
        return RewardResult(outcome=Outcome.ERROR, why=f"the model's scores of the steps are {values[:NAMED_STEPS]}")
    reward = min(1.0, max(0.0, AGGREGATES[settings.aggregate](values)))
    unseen = len(spans) - len(scored)
    named = {f"step_{number + 1}": score for number, score in scored[:NAMED_STEPS]}
    return RewardResult(
        outcome=Outcome.CORRECT if reward > 0.5 else Outcome.WRONG,
        why=f"{settings.aggregate} {reward:.3g} of {len(scored)} steps; above 0.5 is correct"
        + (f"; the first {unseen} lie before what the model can read" if unseen else ""),
        reward=reward,
        parts={**named, "steps": float(len(spans)), "raw": reward},
        span_rewards=tuple(
            SpanReward(start=spans[number][1] - 1, end=spans[number][1], value=score) for number, score in scored
        ),
    )


# ------------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A model that is ready to score."""

    network: Any  # of transformers, in evaluation mode
    texts: Texts  # how it reads a response
    kind: str  # how the name of its class ends


def _kind(folder: str, *kinds: str) -> str:
    """Which of the kinds of model a folder holds."""
    config = json.loads(check_folder(folder).read_text(encoding="utf-8"))
    names = config.get("architectures") or ["none"]
    found = next((kind for kind in kinds if names[0].endswith(kind)), None)
    if found is None:
        wanted = " or ".join(f"...{kind}" for kind in kinds)
        raise ValueError(f"path must hold a model of a class {wanted}; {folder} holds {names[0]}")
    labels = len(config["id2label"]) if "id2label" in config else 2
    if found != _CAUSAL and labels > 2:
        raise ValueError(f"path must hold a model that scores with one or two labels; {folder} has {labels}")
    return found


@functools.cache
def _load(folder: str, on: str, *kinds: str) -> _Loaded:
    kind = _kind(folder, *kinds)
    import torch
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = "cuda" if on != "cpu" and torch.cuda.is_available() else "cpu"
    network, report = getattr(transformers, f"AutoModel{kind}").from_pretrained(
        folder,
        local_files_only=True,
        output_loading_info=True,
        dtype=torch.float32 if device == "cpu" else "auto",
    )
    if report["missing_keys"]:  # transformers fills them with random numbers
        raise ValueError(f"{folder} lacks weights of its model: {', '.join(sorted(report['missing_keys'])[:5])}")
    tokenizer = _tokenizer(folder)
    texts = Texts(tokenizer, limit_of(network.config, tokenizer))
    return _Loaded(network=network.to(device).eval(), texts=texts, kind=kind)


@functools.cache
def _tokenizer(folder: str) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _padded(loaded: _Loaded, rows: Sequence[Row]) -> dict[str, Any]:
    import torch

    pad = loaded.network.config.get_text_config().pad_token_id
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), 0 if pad is None else pad)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
    device = loaded.network.device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _raw_scores(loaded: _Loaded, rows: Sequence[Row]) -> list[float]:
    import torch

    # Without a padding token the class of transformers cannot find the last token of a padded text.
    size = 1 if loaded.network.config.get_text_config().pad_token_id is None else BATCH
    scores: list[float] = []
    for first in range(0, len(rows), size):
        with torch.inference_mode():
            logits = loaded.network(**_padded(loaded, rows[first : first + size])).logits.double()
        scores += (logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0.0)).tolist()
    return scores


def _step_scores(loaded: _Loaded, rows: Sequence[Row]) -> list[list[float | None]]:
    score = _tag_scores if loaded.kind == _CAUSAL else _separator_scores
    return [scores for first in range(0, len(rows), BATCH) for scores in score(loaded, rows[first : first + BATCH])]


def _separator_scores(loaded: _Loaded, rows: Sequence[Row]) -> list[list[float | None]]:
    import torch

    with torch.inference_mode():
        logits = loaded.network(**_padded(loaded, rows)).logits.double()
    raw = logits[..., -1] - (logits[..., 0] if logits.shape[-1] == 2 else 0.0)
    likely = raw.sigmoid().tolist()
    return [_at(row, dict(enumerate(line))) for row, line in zip(rows, likely, strict=True)]


def _tag_scores(loaded: _Loaded, rows: Sequence[Row]) -> list[list[float | None]]:
    import torch

    good, bad = (known_token(loaded.texts.tokenizer, text) for text in (GOOD, BAD))
    kept = sorted({place for row in rows for place in row.places if place >= 0})
    with torch.inference_mode():
        places = torch.tensor(kept, device=loaded.network.device)
        logits = loaded.network(**_padded(loaded, rows), logits_to_keep=places).logits
    likely = (logits[..., good].double() - logits[..., bad].double()).sigmoid().tolist()
    return [_at(row, dict(zip(kept, line, strict=True))) for row, line in zip(rows, likely, strict=True)]


def _at(row: Row, scores: dict[int, float]) -> list[float | None]:
    return [scores[place] if place >= 0 else None for place in row.places]
