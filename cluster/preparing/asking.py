"""What rewards are asked about the rows of a data file, and whether reward models can be shown it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from actors.data.files import BadRow
from actors.data.messages import conversation_of, question_of
from actors.data.reading import DataRow
from actors.settings import DataSettings
from rewards import Case, Question, RewardSettings
from rewards.models.scoring import ModelSettings, ProcessSettings, check_messages


def asked_about(row: DataRow, data: DataSettings, settings: RewardSettings, text: str) -> Question:
    """What is asked of the reward of a row, without a response; `text` is the prompt in its templates."""
    case = Case(
        response="",
        reference=row.reference,
        prompt=text,
        question=question_of(row.prompt),
        messages=conversation_of(row.prompt, row.system or data.system),
    )
    return Question(reward=row.reward, case=case, settings=settings)


def refused_messages(asked: Iterable[tuple[str, Question]], more: Sequence[str] = ()) -> list[BadRow]:
    """The rows whose messages the chat template of a reward model refuses. Of an order of roles it is asked once.

    Args:
        asked: (place, what is asked) of each row.
        more: rewards that grade every row beside its own.
    """
    found: dict[tuple[str, ...], str] = {}
    bad = []
    for place, question in asked:
        if not question.case.messages:
            continue
        roles = tuple(message.role for message in question.case.messages)
        for name, model in _models(question, more).items():
            if (name, *roles) not in found:
                found[name, *roles] = _refusal(name, model, question.case)
            if found[name, *roles]:
                bad.append(BadRow(place=place, problem=found[name, *roles]))
                break
    return bad


def _models(question: Question, more: Sequence[str]) -> dict[str, ModelSettings | ProcessSettings]:
    """The reward models, by name, that a question is asked of. One without a folder is named where folders are."""
    settings = question.settings
    leaves = {
        name: leaf
        for reward in (question.reward, *more)
        if reward in settings.names
        for name, leaf in settings.leaves(reward).items()
    }
    return {
        name: leaf
        for name, leaf in leaves.items()
        if isinstance(leaf, ModelSettings | ProcessSettings) and (Path(leaf.path) / "config.json").is_file()
    }


def _refusal(name: str, model: ModelSettings | ProcessSettings, case: Case) -> str:
    """Why the chat template of a reward model refuses the messages of a case; "" where it takes them."""
    try:
        check_messages(case, model)
    except ValueError as problem:
        return f"{problem} (reward.{name}.path = {model.path!r})"
    return ""
