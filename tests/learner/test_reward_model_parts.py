"""The losses of reward models by hand, their gradients, and how rows become samples."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from actors.data.files import FileRow
from actors.data.labelled import RankedRow, SteppedRow, ranked_row, read_labelled, stepped_row
from actors.errors import DataError
from learner.batches.packing import Packing, empty_batch
from learner.reward_models.examples import PackedExamples, examples_of, packed_examples, scored_place
from learner.reward_models.objective import RankingLoss, StepLoss, agreement_of
from rewards import Case, ChatMessage
from rewards.models.texts import Texts
from tests.tokenizers import NO_SYSTEM, chatty, letters

PACKING = Packing(tokens=64)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts(letters(), 64)


def ranked(chosen: tuple[str, ...], rejected: tuple[str, ...], margin: float = 0.0) -> RankedRow:
    return RankedRow(place="a:1", question="1+2=", chosen=chosen, rejected=rejected, margin=margin)


def scores_of(packed: PackedExamples, scores: list[float]) -> list[torch.Tensor]:
    """The scores of samples, by their number, as a model would give them for each micro-batch."""
    return [torch.tensor([scores[member] for member in batch.members], requires_grad=True) for batch in packed.batches]


def test_the_loss_of_pairs_is_bradley_terry_by_hand(texts: Texts) -> None:
    rows = [ranked(("3",), ("4", "5")), ranked(("3",), ("6",), margin=0.5)]
    packed = packed_examples(examples_of(rows, texts, None), PACKING)
    scores = scores_of(packed, [2.0, 1.0, 3.0, 0.5, 0.0])  # of the samples of each row, chosen ones first
    loss = RankingLoss(packed, 2)
    found = [loss(n, batch, (scores[n],)) for n, batch in enumerate(packed.batches)]
    one = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(1.0))) / 2  # 2 - 1 and 2 - 3
    other = math.log(2.0)  # 0.5 - 0 - 0.5
    assert sum(each.loss.item() for each in found) == pytest.approx((one + other) / 2, abs=1e-6)
    total = {name: sum(float(each.sums[name]) for each in found) for name in found[0].sums}
    agreement = agreement_of(total)
    assert (agreement.accuracy, agreement.count) == (pytest.approx((0.5 + 1.0) / 2), 2)
    assert agreement.margin == pytest.approx((2.0 + 0.5) / 2 - (1.0 + 3.0 + 0.0) / 3)


def test_the_gradient_of_pairs_is_that_of_an_independent_computation(texts: Texts) -> None:
    rows = [ranked(("3", "03"), ("4", "5")), ranked(("3",), ("6",))]
    packed = packed_examples(examples_of(rows, texts, None), PACKING)
    values = [0.3, -0.2, 0.9, 0.1, 0.7, -0.4]
    scores = scores_of(packed, values)
    loss = RankingLoss(packed, 2)
    for number, batch in enumerate(packed.batches):
        loss(number, batch, (scores[number],)).loss.backward()
    own = torch.tensor(values, requires_grad=True)
    by_row = [torch.stack([own[c] - own[r] for c in (0, 1) for r in (2, 3)]), (own[4] - own[5])[None]]
    torch.stack([-logsigmoid(each).mean() for each in by_row]).mean().backward()  # TRL's formula, row by row
    found = torch.zeros(6)
    for batch, each in zip(packed.batches, scores, strict=True):
        found[list(batch.members)] = each.grad
    assert found.tolist() == pytest.approx(own.grad.tolist(), abs=1e-7)


def test_the_loss_of_steps_is_cross_entropy_by_hand(texts: Texts) -> None:
    row = SteppedRow(place="a:1", question="1+2=", steps=("1", "+2", "=3"), labels=(1.0, None, 0.25))
    packed = packed_examples(examples_of([row], texts, None), PACKING)
    scores = torch.tensor([0.4, -1.0], requires_grad=True)
    found = StepLoss(packed, 2)(0, packed.batches[0], (scores,))
    p, q = (1 / (1 + math.exp(-s)) for s in (0.4, -1.0))
    by_hand = (-math.log(p) - 0.25 * math.log(q) - 0.75 * math.log(1 - q)) / 2
    assert found.loss.item() == pytest.approx(by_hand, abs=1e-6)
    found.loss.backward()
    assert scores.grad.tolist() == pytest.approx([(p - 1.0) / 2, (q - 0.25) / 2], abs=1e-6)
    assert agreement_of({name: float(value) for name, value in found.sums.items()}).accuracy == 1.0


def test_a_micro_batch_that_trains_nothing_costs_nothing(texts: Texts) -> None:
    packed, scores = packed_examples([], PACKING), torch.zeros(1, requires_grad=True)
    for loss in (RankingLoss(packed, 3), StepLoss(packed, 3)):
        found = loss(0, empty_batch(), (scores,))
        found.loss.backward()
        assert found.loss.item() == 0.0
        assert {name for name, value in found.sums.items() if float(value)} == set()
    assert scores.grad.tolist() == [0.0]


def test_a_whole_response_is_scored_at_its_last_token_and_a_step_at_its_separator(texts: Texts) -> None:
    (pair,) = examples_of([ranked(("3",), ("45",))], texts, None)
    assert [sample.inputs for sample in pair.samples] == [5, 6]  # all of the text is read
    (steps,) = examples_of(
        [SteppedRow(place="a:1", question="1+2=", steps=("1", "+2"), labels=(1.0, 0.0))], texts, None
    )
    read = texts.separated(Case(response="1+2", reference="", question="1+2="), [(0, 1), (1, 3)])
    assert (np.flatnonzero(steps.samples[0].trained) - 1).tolist() == read.places
    assert scored_place([5, 6, 9, 9], 9) == 1
    assert scored_place([5, 6], None) == 1


def test_responses_of_a_row_lie_in_one_micro_batch(texts: Texts) -> None:
    rows = [ranked(("3",), tuple("456789"[: 1 + number % 3])) for number in range(9)]
    packed = packed_examples(examples_of(rows, texts, None), Packing(tokens=24))
    assert len(packed.batches) > 1
    numbers = sorted(member for batch in packed.batches for member in batch.members)
    assert numbers == list(range(sum(len(example.samples) for example in packed.examples)))
    for start, example in zip(packed.starts, packed.examples, strict=True):
        mine = set(range(start, start + len(example.samples)))
        assert sum(mine <= set(batch.members) for batch in packed.batches) == 1


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation; one that says "S" is the system."""
    roles = ["system"] * (texts[0] == "S") + ["user", "assistant"] * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "'rejected', expected a response"),
        ({"prompt": "q", "chosen": "a", "rejected": ["a", "b"]}, "one text both"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": -1}, "'margin', expected a number"),
        ({"chosen": "a", "rejected": "b"}, "no text in column 'prompt'"),
        ({"chosen": [{"role": "user", "content": "q"}], "rejected": "b"}, "ends with the user's message"),
        ({"prompt": "q", "chosen": {"role": "user", "content": "a"}, "rejected": "b"}, "ends with the user's message"),
        ({"chosen": said("q", "a"), "rejected": said("r", "b")}, "only responses to the same one can be compared"),
        ({"prompt": "q", "chosen": said("q", "x", "r", "a"), "rejected": "b"}, "other conversations in front"),
        (
            {"prompt": "q", "chosen": said("q", "x", "r", "a"), "rejected": said("q", "y", "r", "b")},
            "other conversations in front of the responses in 'chosen' and 'rejected'",
        ),
        (
            {"prompt": "q", "chosen": said("r", "a"), "rejected": said("r", "b")},
            "'chosen' a conversation that does not begin with what column 'prompt' holds, 'q': mend the one",
        ),
        ({"prompt": "q", "steps": ["a", "b"], "labels": [1]}, "1 labels"),
        ({"prompt": "q", "steps": ["a"], "labels": [1.5]}, "expected a number from 0 to 1"),
        ({"prompt": "q", "steps": ["a"], "labels": [None]}, "no step with a label"),
        ({"prompt": "q", "steps": ["a", " "], "labels": [1, 0]}, "none of them empty"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(cells: dict, problem: str) -> None:
    read = ranked_row if "chosen" in cells else stepped_row
    with pytest.raises(ValueError, match=problem):
        read(FileRow(place="a:1", cells=cells), "prompt")


@pytest.mark.parametrize(
    ("cells", "question"),
    [
        ({"chosen": said("q", "a"), "rejected": said("q", "b")}, "q"),
        ({"prompt": None, "chosen": said("q", "a"), "rejected": said("q", "b")}, "q"),
        ({"prompt": "q ", "chosen": said("S", "q", "a"), "rejected": said("S", "q", "b")}, "q"),
        ({"prompt": said("S", "q"), "chosen": said("q", "a"), "rejected": "b"}, "q"),
        (
            {"prompt": "q", "chosen": said("q", "x", "r", "a"), "rejected": said("q", "x", "r", "b")},
            "user: q\n\nassistant: x\n\nuser: r",
        ),
        ({"prompt": "q", "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}, "q"),
        ({"prompt": said("q"), "chosen": said("q", "a")[1:], "rejected": said("q", "b")[1:]}, "q"),
    ],
)
def test_the_prompt_is_what_stands_in_front_of_the_responses(cells: dict, question: str) -> None:
    row = ranked_row(FileRow(place="a:1", cells=cells), "prompt")
    assert (row.question, row.chosen, row.rejected) == (question, ("a",), ("b",))


@pytest.mark.parametrize(
    ("cells", "messages"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [("system", "run"), ("user", "q")]),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "s": "row"}, [("system", "row"), ("user", "q")]),
        ({"prompt": said("S", "q"), "chosen": "a", "rejected": "b"}, [("system", "S"), ("user", "q")]),
        ({"chosen": said("S", "q", "a"), "rejected": said("S", "q", "b")}, [("system", "S"), ("user", "q")]),
        (
            {"prompt": "q", "chosen": said("q", "x", "r", "a"), "rejected": said("q", "x", "r", "b"), "s": "row"},
            [("system", "row"), ("user", "q"), ("assistant", "x"), ("user", "r")],
        ),
        ({"prompt": said("S", "q"), "steps": ["a", "b"], "labels": [1, 0]}, [("system", "S"), ("user", "q")]),
    ],
)
def test_rows_are_trained_on_with_the_messages_and_tokens_that_are_scored(
    tmp_path: Path, cells: dict, messages: list[tuple[str, str]]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(cells) + "\n" + json.dumps(cells | {"s": "other", "chosen": "c"}) + "\n")
    row, *_ = read_labelled(str(file), "prompt", refuse=lambda bad: None, system_column="s", system="run")
    assert list(row.messages) == messages
    texts = Texts(chatty(), 999)
    (example,) = examples_of([row], texts, None)
    response = row.chosen[0] if isinstance(row, RankedRow) else "".join(row.steps)
    case = Case(
        response=response, reference="", question=row.question, messages=tuple(map(ChatMessage._make, messages))
    )
    read = texts.whole(case) if isinstance(row, RankedRow) else texts.separated(case, row.spans)
    assert example.samples[0].tokens[:-1].tolist() == read.ids


def test_a_column_of_system_messages_that_no_labelled_row_has_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(DataError, match=r"has a column 's' \(data\.system_column; columns there: prompt, chosen"):
        read_labelled(str(file), "prompt", system_column="s")


def test_a_row_that_the_chat_template_refuses_is_named() -> None:
    tokenizer = chatty()
    tokenizer.chat_template = NO_SYSTEM
    row = ranked_row(FileRow(place="a:1", cells={"prompt": "q", "chosen": "a", "rejected": "b"}), "prompt", "S")
    with pytest.raises(ValueError, match=r"a:1 has messages that .* refuses \(system, user, assistant\): System role"):
        examples_of([row], Texts(tokenizer, 99), None)


def test_rows_are_read_as_they_are_published(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "q", "chosen": said, "rejected": ["b", "c"], "margin": 1}) + "\n")
    (row,) = read_labelled(str(file), "prompt")
    assert (row.chosen, row.rejected, row.margin) == (("a",), ("b", "c"), 1.0)
    labels = [{"step": 0, "hard": 1.0, "soft": 0.25, "scored": 8}, True]
    file.write_text(json.dumps({"prompt": "q", "steps": ["a ", "\n\nb"], "labels": labels}) + "\n")
    (row,) = read_labelled(str(file), "prompt")
    assert (row.labels, row.spans) == ((0.25, 1.0), [(0, 1), (4, 5)])
    file.write_text('{"prompt": "q", "chosen": "a"}\n')
    with pytest.raises(DataError, match="neither 'chosen' and 'rejected'"):
        read_labelled(str(file), "prompt")
