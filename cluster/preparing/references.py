"""Whether the references of a data file can be graded against. Every bad row is named by file and line."""

from collections import defaultdict
from collections.abc import Sequence

from actors.data.files import BadRow
from actors.data.reading import DataRow
from cluster.config.errors import ConfigError
from cluster.preparing.graders import Graders, progress
from rewards import REWARDS, Case, Outcome, Question, RewardSettings

NOTHING = ""  # the response that no reference may find right


def bad_references(rows: Sequence[DataRow], settings: RewardSettings, graders: Graders) -> list[BadRow]:
    """The rows whose reward or reference is unusable; equal references are looked at once.

    Raises:
        ConfigError: a reward cannot be used at all, such as one whose file does not load.
    """
    known = settings.names
    asked: dict[str, dict[str, list[DataRow]]] = defaultdict(lambda: defaultdict(list))
    bad = []
    for row in rows:
        if row.reward not in known:
            problem = f"asks for the reward {row.reward!r}; there are {', '.join(known)}"
            bad.append(BadRow(place=row.place, problem=problem))
        elif row.parts and _takes_text(row.reward, settings):
            bad.append(BadRow(place=row.place, problem=_how_to_reach(row)))
        else:
            asked[row.reward][row.reference].append(row)
    for reward in sorted(asked):
        references = list(asked[reward])
        answers = progress(graders.problems(reward, references, settings), f"references of {reward}", len(references))
        found = dict(zip(references, answers, strict=True))
        if whole := next((problem for problem in found.values() if problem.startswith("reward.")), ""):
            raise ConfigError(whole)  # of the reward's settings: the same for every reference
        found |= _right_without_answer(reward, [text for text in references if not found[text]], settings, graders)
        bad += [
            BadRow(place=row.place, problem=f"cannot be graded against: {found[reference]}")
            for reference, of_it in asked[reward].items()
            for row in of_it
            if found[reference]
        ]
    return bad


def _right_without_answer(
    reward: str, references: Sequence[str], settings: RewardSettings, graders: Graders
) -> dict[str, str]:
    """What is wrong with references that find a response without any text right."""
    cases = [Case(response=NOTHING, reference=reference) for reference in references]
    questions = [Question(reward=reward, case=case, settings=settings) for case in cases]
    verdicts = progress(graders.grade(questions), f"an empty answer for {reward}", len(questions))
    return {
        reference: f"a response without any text is right ({verdict.why}), so the row teaches nothing"
        for reference, verdict in zip(references, verdicts, strict=True)
        if verdict.outcome is Outcome.CORRECT
    }


def _takes_text(reward: str, settings: RewardSettings) -> bool:
    """Whether the reward reads its reference as an answer, and not as an object with parts of its own."""
    kind = settings.of(reward).kind
    return kind in REWARDS and REWARDS[kind].echoes


def _how_to_reach(row: DataRow) -> str:
    """What to say of an answer that is an object or a list where the reward wants a text."""
    return (
        f"has an answer with the parts {', '.join(row.parts[:8])} where {row.reward} wants a text: name one of them in "
        f'data.answer_column behind a dot, such as "COLUMN.{row.parts[0]}"'
    )
