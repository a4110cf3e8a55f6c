"""Groups as Arrow record batches: how they lie in the object store, and how they are written to Parquet.

One row per trajectory: one per response, but where a response is continued. `group_of(batch_of(group))` gives the group
back bit for bit, except that a lone surrogate in a text, which UTF-8 cannot hold, is written as its escape sequence.
Files of older runs lack the columns of `ADDED`; `data.stored` reads such files with the value that stands there.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from actors.errors import Unpackable
from actors.sampled import SampledTurn
from actors.types import POLICY, Finish, Group, LeftRow, Prompt, Trajectory
from rewards import ChatMessage, Outcome, SpanReward, Verdict

SPAN = pa.struct(
    [
        pa.field("start", pa.int32(), False),  # characters of the response before the span
        pa.field("end", pa.int32(), False),  # characters of the response up to its end
        pa.field("value", pa.float64(), False),
    ]
)
TURN = pa.struct(
    [
        pa.field("start", pa.int32(), False),  # its first token
        pa.field("end", pa.int32(), False),  # the token behind its last one
        pa.field("after", pa.string(), False),  # who spoke before it
        pa.field("digest", pa.int64(), False),  # of what the engine was shown and sampled: `actors.sampled.digest_of`
    ]
)
MESSAGE = pa.struct(
    [
        pa.field("role", pa.string(), False),
        pa.field("content", pa.string(), False),
    ]
)
LEFT = pa.struct(
    [
        pa.field("name", pa.string(), False),
        pa.field("row", pa.string(), False),  # a JSON object
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("group", pa.int64(), False),  # dispatch number of the group within the run
        pa.field("sample", pa.int32(), False),  # index in the group
        pa.field("prompt_id", pa.string(), False),
        pa.field("prompt", pa.string(), False),
        pa.field("response", pa.string(), False),
        pa.field("reference", pa.string(), False),
        pa.field("reward", pa.string(), False),  # name of the reward
        pa.field("outcome", pa.string(), False),
        pa.field("score", pa.float64()),  # null where there is no verdict
        pa.field("greedy_score", pa.float64()),  # of a greedy response to the prompt; null where none was asked for
        pa.field("parts", pa.map_(pa.string(), pa.float64()), False),
        pa.field("why", pa.string(), False),
        pa.field("finish", pa.string(), False),
        pa.field("prompt_tokens", pa.int32(), False),  # how many of the tokens are the prompt's
        pa.field("tokens", pa.list_(pa.int32()), False),
        pa.field("sampled", pa.list_(pa.bool_()), False),
        pa.field("logprobs", pa.list_(pa.float32()), False),
        pa.field("versions", pa.list_(pa.int32()), False),
        pa.field("span_rewards", pa.list_(pa.float32()), False),  # on tokens, NaN without; or empty
        pa.field("question", pa.string(), False),  # the prompt without templates, "" where it is not known apart
        pa.field("spans", pa.list_(SPAN), False),  # the verdict's span rewards, from which `span_rewards` was made
        pa.field("episode", pa.int32(), False),  # which of the group's episodes it comes from
        pa.field("seat", pa.string(), False),  # who says its turns
        pa.field("siblings", pa.string(), False),  # name of the set of responses that it is compared with
        pa.field("continues", pa.bool_(), False),  # whether it is more of the response in the row before it
        pa.field("turns", pa.list_(TURN), False),  # the stretches that an engine sampled; none of a single question
        pa.field("left", pa.list_(LEFT), False),  # rows that the episode has left, on the first of its trajectories
        pa.field("messages", pa.list_(MESSAGE), False),  # the question in its roles; none where it is one message
    ]
)
OF_EPISODE = ("episode", "seat", "siblings", "continues")
# Column that older files lack -> what is read instead.
ADDED: dict[str, object] = {
    **{"question": "", "spans": [], "messages": []},
    **{"episode": 0, "seat": POLICY, "siblings": POLICY, "continues": False, "turns": [], "left": []},
}


def batch_of(group: Group) -> pa.RecordBatch:
    """The group as a record batch of G rows with `SCHEMA`.

    Raises:
        Unpackable: Arrow refuses a value of it.
    """
    try:
        return _batch_of(group)
    except Unpackable as failure:
        raise Unpackable(f"group {group.id} (prompt {group.prompt.id}) cannot be stored: {failure}") from failure


def fault_of(verdict: Verdict) -> str:
    """Why the verdict cannot be stored in a group, such as a part that is no number; "" where it can."""
    if _plain(verdict):
        return ""
    try:
        cells = {
            "score": verdict.score,
            "parts": list(verdict.parts.items()),
            "why": verdict.why,
            "spans": [vars(span) for span in verdict.span_rewards],
        }
        for name, cell in cells.items():
            _array(SCHEMA.field(name), [cell])
    except (Unpackable, TypeError, AttributeError) as failure:
        return str(failure)
    return ""


def _batch_of(group: Group) -> pa.RecordBatch:
    prompt, rows = group.prompt, list(zip(group.trajectories, group.verdicts, strict=True))
    ends = _ends([t.tokens for t, _ in rows])
    columns = {
        "group": [group.id] * len(rows),
        "sample": _known("sample", tuple(range(len(rows)))),
        "prompt_id": [prompt.id] * len(rows),
        "prompt": [prompt.text] * len(rows),
        "response": [t.text for t, _ in rows],
        "reference": [prompt.reference] * len(rows),
        "reward": _known("reward", (prompt.reward,) * len(rows)),
        "outcome": _known("outcome", tuple(v.outcome for _, v in rows)),
        "score": [v.score for _, v in rows],
        "greedy_score": _known("greedy_score", (group.greedy,) * len(rows)),
        "parts": _parts(group),
        "why": [v.why for _, v in rows],
        "finish": _known("finish", tuple(t.finish for t, _ in rows)),
        "prompt_tokens": _known("prompt_tokens", (prompt.tokens.size,) * len(rows)),
        "tokens": _ragged([t.tokens for t, _ in rows], ends, pa.int32()),
        "sampled": _ragged([t.sampled for t, _ in rows], ends, pa.bool_()),
        "logprobs": _ragged([t.logprobs for t, _ in rows], ends, pa.float32()),
        "versions": _ragged([t.versions for t, _ in rows], ends, pa.int32()),
        "span_rewards": _span_rewards(group),
        "question": [prompt.question] * len(rows),
        "spans": _spans(group),
        "episode": _known("episode", tuple(t.episode for t, _ in rows)),
        "seat": _known("seat", tuple(t.seat for t, _ in rows)),
        "siblings": _known("siblings", tuple(t.siblings for t, _ in rows)),
        "continues": _known("continues", tuple(t.continues for t, _ in rows)),
        "turns": [t.turns for t, _ in rows] if any(t.turns for t, _ in rows) else _known("turns", ((),) * len(rows)),
        "left": [t.left for t, _ in rows] if any(t.left for t, _ in rows) else _known("left", ((),) * len(rows)),
        "messages": _messages(prompt, len(rows)),
    }
    arrays = [
        value if isinstance(value, pa.Array) else _array(field, value)
        for field, value in zip(SCHEMA, columns.values(), strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def packed(group: Group) -> pa.Buffer:
    """The group as it travels between processes: its record batch without the schema. Pickling a record batch writes
    the schema anew for every group, which takes 50 times as long as this."""
    return batch_of(group).serialize()


def unpacked(buffer: pa.Buffer) -> pa.RecordBatch:
    """The record batch of `packed`; its arrays are views of the buffer."""
    return pa.ipc.read_record_batch(buffer, SCHEMA)


def group_of(batch: pa.RecordBatch) -> Group:
    """The group that a record batch of `batch_of` holds; numeric arrays are views of the batch where Arrow allows."""
    column = dict(zip(batch.schema.names, batch.columns, strict=True))
    plain = ("response", "outcome", "score", "parts", "why", "finish", *OF_EPISODE)
    cells = {name: column[name].to_pylist() for name in plain}
    streams = [_rows(column[name]) for name in ("tokens", "sampled", "logprobs", "versions")]
    trajectories = tuple(
        Trajectory(
            tokens=t,
            sampled=s,
            logprobs=p,
            versions=v,
            finish=Finish(finish),
            text=text,
            episode=episode,
            seat=seat,
            siblings=siblings,
            continues=continues,
            turns=turns,
            left=left,
        )
        for t, s, p, v, finish, text, episode, seat, siblings, continues, turns, left in zip(
            *streams,
            *(cells[name] for name in ("finish", "response", *OF_EPISODE)),
            _turns(column["turns"]),
            _left(column["left"]),
            strict=True,
        )
    )
    cells["spans"] = _spans_of(column["spans"])
    verdicts = tuple(
        Verdict(outcome=Outcome(outcome), score=score, why=why, parts=dict(parts), span_rewards=spans)
        for outcome, score, why, parts, spans in zip(
            *(cells[name] for name in ("outcome", "score", "why", "parts", "spans")), strict=True
        )
    )
    once = ("group", "prompt_id", "prompt", "reward", "reference", "greedy_score", "question", "messages")
    first = {name: column[name][0].as_py() for name in once}
    prompt = Prompt(
        id=first["prompt_id"],
        tokens=trajectories[0].tokens[: column["prompt_tokens"][0].as_py()],
        text=first["prompt"],
        reward=first["reward"],
        reference=first["reference"],
        question=first["question"],
        messages=tuple(ChatMessage(**message) for message in first["messages"]),
    )
    span_rewards = tuple(_rows(column["span_rewards"]))
    return Group(
        id=first["group"],
        prompt=prompt,
        trajectories=trajectories,
        verdicts=verdicts,
        greedy=first["greedy_score"],
        span_rewards=span_rewards if any(span_rewards.size for span_rewards in span_rewards) else (),
    )


def _plain(verdict: Verdict) -> bool:
    """Whether its values are of the exact types that can be stored, as nearly always: no column is built to see it."""
    if type(verdict.parts) is not dict or verdict.span_rewards:
        return False
    numbers, texts = {*map(type, verdict.parts.values())}, {type(verdict.why), *map(type, verdict.parts)}
    return numbers <= {float} and texts == {str} and type(verdict.score) in (float, NoneType)


def _array(field: pa.Field, values: Iterable[Any]) -> pa.Array:
    """A column.

    Raises:
        Unpackable: Arrow refuses a value of it.
    """
    try:
        column = pa.array(_encodable(values) if field.type == pa.string() else values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as failure:
        raise Unpackable(f"{field.name} = {list(values)!r:.200}: {failure}") from failure
    if column.null_count and not field.nullable:
        raise Unpackable(f"{field.name} = {list(values)!r:.200}: there is no value")
    return column


def _encodable(texts: Iterable[Any]) -> list[str]:
    """The texts with every lone surrogate as its escape sequence, such as \\udcff.

    Raises:
        TypeError: one of them is no text.
    """
    texts = list(texts)
    if "".join(texts).isascii():  # as nearly always
        return texts
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]


def _messages(prompt: Prompt, count: int) -> pa.ListArray:
    """The messages of a prompt, so many times."""
    if not prompt.messages:
        return _known("messages", ((),) * count)
    roles, contents = map(_encodable, zip(*prompt.messages, strict=True))
    return _array(SCHEMA.field("messages"), [list(zip(roles, contents, strict=True))] * count)


def _turns(column: pa.Array) -> list[tuple[SampledTurn, ...]]:
    """The turns of each row; most groups have none."""
    if not _within(column):
        return [()] * len(column)
    return [tuple(SampledTurn(**turn) for turn in turns) for turns in column.to_pylist()]


def _left(column: pa.Array) -> list[tuple[LeftRow, ...]]:
    """What the episode of each row has left; most groups have none."""
    if not _within(column):
        return [()] * len(column)
    return [tuple(LeftRow(**row) for row in rows) for rows in column.to_pylist()]


@lru_cache(maxsize=1024)
def _known(name: str, cells: tuple[Any, ...]) -> pa.Array:
    """A column whose cells are few words or small numbers, of which most groups have the same."""
    return _array(SCHEMA.field(name), cells)


def _ends(rows: list[np.ndarray]) -> pa.Array:
    return pa.array(np.cumsum([0, *(row.size for row in rows)], dtype=np.int32))


def _ragged(rows: list[np.ndarray], ends: pa.Array, kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(ends, pa.array(np.concatenate(rows), kind))


def _parts(group: Group) -> pa.MapArray:
    if any(verdict.parts for verdict in group.verdicts):
        return _array(SCHEMA.field("parts"), [list(verdict.parts.items()) for verdict in group.verdicts])
    return _known("parts", ((),) * len(group.verdicts))


def _spans(group: Group) -> pa.ListArray:
    spans = [[vars(span) for span in verdict.span_rewards] for verdict in group.verdicts]
    if any(spans):
        return _array(SCHEMA.field("spans"), spans)
    return _known("spans", ((),) * len(spans))


def _span_rewards(group: Group) -> pa.ListArray:
    if rewards := list(group.span_rewards):
        return _ragged(rewards, _ends(rewards), pa.float32())
    return _known("span_rewards", ((),) * len(group.trajectories))


def _spans_of(column: pa.ListArray) -> list[tuple[SpanReward, ...]]:
    if not _within(column):
        return [()] * len(column)
    return [tuple(SpanReward(**span) for span in spans) for spans in column.to_pylist()]


def _rows(column: pa.ListArray) -> list[np.ndarray]:
    ends = column.offsets.to_numpy()
    first, size = int(ends[0]), int(ends[-1] - ends[0])  # of these rows only, however long the file
    values = column.values.slice(first, size).to_numpy(zero_copy_only=False)
    return [values[start:end] for start, end in pairwise((ends - first).tolist())]


def _within(column: pa.ListArray) -> int:
    """How many values all rows have together."""
    ends = column.offsets
    return int(ends[-1].as_py() - ends[0].as_py())
