"""Whether the references of a data file can be graded against. Every bad row is named by file and line."""

from collections import defaultdict
from collections.abc import Sequence

from actors.data.files import BadRow
from actors.data.reading import DataRow
from cluster.config.errors import ConfigError
from cluster.preparing.graders import Graders, progress
from rewards import REWARDS, Case, Outcome, Question, RewardSettings


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
        elif not row.reference and reads_references(row.reward, settings):
            problem = f'has no reference (answer_column = ""), and the reward {row.reward!r} compares with one'
            bad.append(BadRow(place=row.place, problem=problem))
        elif row.no_text and takes_text(row.reward, settings):
            problem = f"has an answer that {row.reward} cannot compare with: {row.no_text}"
            bad.append(BadRow(place=row.place, problem=problem))
        else:
            asked[row.reward][row.reference].append(row)
    for reward in sorted(asked):
        references = list(asked[reward])
        answers = progress(graders.problems(reward, references, settings), f"references of {reward}", len(references))
        found = dict(zip(references, answers, strict=True))
        if whole := next((problem for problem in found.values() if problem.startswith("reward.")), ""):
            raise ConfigError(whole)  # of the reward's settings: the same for every reference
        if reads_references(reward, settings):
            usable = [text for text in references if not found[text]]
            found |= right_without_answer(reward, usable, settings, graders)
        bad += [
            BadRow(place=row.place, problem=f"cannot be graded against: {found[reference]}")
            for reference, of_it in asked[reward].items()
            for row in of_it
            if found[reference]
        ]
    return bad


def takes_text(reward: str, settings: RewardSettings) -> bool:
    """Whether a reward reads its reference as an answer, and not as an object with parts of its own."""
    return any(REWARDS[leaf.kind].echoes for leaf in settings.leaves(reward).values())


def right_without_answer(
    reward: str, references: Sequence[str], settings: RewardSettings, graders: Graders
) -> dict[str, str]:
    """What is wrong with the references that find a response right which says or does nothing."""
    nothings = {""} | {REWARDS[leaf.kind].nothing for leaf in settings.leaves(reward).values()}
    cases = [Case(response=nothing, reference=reference) for reference in references for nothing in sorted(nothings)]
    questions = [Question(reward=reward, case=case, settings=settings) for case in cases]
    verdicts = progress(graders.grade(questions), f"an empty answer for {reward}", len(questions))
    return {
        case.reference: f"the response {case.response!r} is right ({verdict.why}), so the row teaches nothing"
        for case, verdict in zip(cases, verdicts, strict=True)
        if verdict.outcome is Outcome.CORRECT
    }


def reads_references(reward: str, settings: RewardSettings) -> bool:
    """Whether a built-in reward compares with the reference; a person's own function may like what it likes."""
    return any(REWARDS[leaf.kind].check is not None for leaf in settings.leaves(reward).values())
