"""Runs as they lie on disk, made by the recorder that real runs have, without a run."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.testclient import TestClient
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from actors.arrow import packed
from actors.filtering.recorder import Recorder
from actors.types import Finish, Group, Trajectory
from cluster.browsing.advantages import crediting_of
from cluster.browsing.app import Browsed, app_for
from cluster.browsing.folder import RunFolder, run_folder
from cluster.browsing.following import Following
from cluster.browsing.index import Index
from cluster.browsing.serve import Place, browsed_folder, listening
from cluster.browsing.texts import token_texts
from rewards import Outcome, Verdict
from tests.builders import prompt

CONFIG = """
[learner]
algorithm = "grpo"
[reward]
wrong = -1.0
correct = 1.0
[rollout]
max_new_tokens = 8
"""
AGAIN = "What is 2+2?"  # a prompt that comes in several steps
# What a response may hold, none of which may reach a terminal, a page or a query as anything but text.
HOSTILE = {
    "markup": "</script><img src=x onerror=alert(1)><b>bold</b>",
    "terminal": "\x1b[31mred\x1b[0m\x07",
    "bidi": "safe\u202e txet\u2066\u2069",
    "nul": "before\x00after",
    "long line": "x" * 200_000,
    "lone surrogate": "half \udcff",
    "sql": "'; DROP TABLE responses; --",
    "pattern": "100%_\\",
    "empty": "",
}


def byte_tokenizer(file: Path) -> Path:
    """A tokenizer of bytes, as those of Qwen and Llama 3 are at their core; id = place in the sorted alphabet."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    file.parent.mkdir(parents=True, exist_ok=True)
    core.save(str(file))
    return file


def said(text: str, *, version: int = 0, seat: str = "policy", before: Sequence[int] = (1, 2, 3)) -> Trajectory:
    """A trajectory of one turn, three tokens long."""
    tokens = np.array([*before, 10, 11, 12], np.int32)
    sampled = np.arange(tokens.size) >= len(before)
    return Trajectory(
        tokens=tokens,
        sampled=sampled,
        logprobs=np.where(sampled, -0.5, 0.0).astype(np.float32),
        versions=np.where(sampled, version, -1).astype(np.int32),
        finish=Finish.STOP,
        text=text,
        seat=seat,
        siblings=seat,
    )


def group_of_texts(texts: Sequence[str], scores: Sequence[float | None], *, id: int = 0, asked: str = "2+3=") -> Group:
    """A group with these responses."""
    ends = {None: Outcome.TIMEOUT, 1.0: Outcome.CORRECT}
    verdicts = [
        Verdict(outcome=ends.get(score, Outcome.WRONG), score=score, why=f"because {score}") for score in scores
    ]
    return Group(
        id=id,
        prompt=replace(prompt(f"p{id}"), text=asked, question=asked),
        trajectories=tuple(said(text, version=id) for text in texts),
        verdicts=tuple(verdicts),
    )


def turns(tokenizer: Tokenizer, said: Sequence[tuple[bool, str]], *, versions: Sequence[int] = (0,)) -> Trajectory:
    """A stream of turns, each (whether the policy says it, its text); a token to a byte, of ever smaller probability.
    Versions are those of the policy's turns."""
    encoded = [np.array(tokenizer.encode(text).ids, np.int32) for _, text in said]
    own = [np.full(ids.size, by) for ids, (by, _) in zip(encoded, said, strict=True)]
    chosen = iter(versions * len(said))
    stamps = [np.full(ids.size, next(chosen) if by else -1) for ids, (by, _) in zip(encoded, said, strict=True)]
    sampled = np.concatenate(own)
    return Trajectory(
        tokens=np.concatenate(encoded),
        sampled=sampled,
        logprobs=np.where(sampled, -np.cumsum(sampled) / 4, 0).astype(np.float32),
        versions=np.concatenate(stamps).astype(np.int32),
        finish=Finish.STOP,
        text="".join(text for by, text in said if by),
    )


def episode(tokenizer: Tokenizer) -> Group:
    """Two seats that play with each other; the first one's template begins a new stream."""
    heard = turns(tokenizer, [(False, "You ask."), (True, "Is it red?"), (False, "No."), (True, "Is it blue?")])
    again = turns(tokenizer, [(False, "You ask. It is late."), (True, "I give up.")])
    other = turns(tokenizer, [(False, "You answer."), (True, "No.")])
    seats = [
        replace(heard, seat="asker", siblings="asker"),
        replace(again, seat="asker", siblings="asker", continues=True),
        replace(other, seat="answerer", siblings="answerer"),
    ]
    ends = ((Outcome.WRONG, -1.0), (Outcome.WRONG, -1.0), (Outcome.CORRECT, 1.0))
    verdicts = tuple(Verdict(outcome=outcome, score=score, why="") for outcome, score in ends)
    whole = group_of_texts([""] * 3, [1.0] * 3, id=50, asked="Guess the thing.")
    return replace(whole, trajectories=tuple(seats), verdicts=verdicts)


def told(tokenizer: Tokenizer, id: int, texts: Sequence[str], scores: Sequence[float | None]) -> Group:
    """A group of the prompt that comes again in every step."""
    made = group_of_texts(texts, scores, id=id, asked=AGAIN)
    streams = [turns(tokenizer, [(False, AGAIN), (True, text)], versions=(id // 10,)) for text in texts]
    return replace(made, prompt=replace(made.prompt, id="again"), trajectories=tuple(streams))


def write_run(folder: Path, groups: Mapping[int, Sequence[tuple[Group, str]]], config: str = CONFIG) -> Path:
    """A run folder: of each step the groups, and why each was rejected."""
    folder.mkdir(parents=True, exist_ok=True)
    if config:
        (folder / "config.toml").write_text(config)
    recorder = Recorder(folder / "trajectories")
    for step, members in sorted(groups.items()):
        for group, rejected in members:
            recorder.write([packed(group)], rejected)
        recorder.close_step(step)
    recorder.abandon()
    return folder


@contextmanager
def looked_at(run: RunFolder) -> Iterator[tuple[Any, Following]]:
    """The index of a run, when its folder has been looked at once."""
    with browsed_folder(run) as (index, following):
        following.look()
        yield index, following


@contextmanager
def page_of(folder: Path, token: str = "", host: str = "http://localhost:8642") -> Iterator[TestClient]:
    """What answers for a run, as a browser asks it."""
    run = run_folder(str(folder))
    with looked_at(run) as (index, following):
        yield TestClient(app_for(browsed(run, index, following), token), base_url=host, raise_server_exceptions=True)


@contextmanager
def served(folder: Path, token: str = "") -> Iterator[str]:
    """The URL at which a run is served, and followed while it grows."""
    run = run_folder(str(folder))
    place = Place(host="127.0.0.1", port=0, browser=False)
    with browsed_folder(run) as (index, following), listening(place) as listener:
        app = app_for(browsed(run, index, following), token)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        following.start()
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def browsed(run: RunFolder, index: Index, following: Following) -> Browsed:
    """A run with what answers of it need."""
    return Browsed(run=run, index=index, following=following, texts=token_texts(run), crediting=crediting_of(run))
