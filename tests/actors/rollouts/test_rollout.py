"""A generator around an engine of paper: which responses it samples, and which it spares."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.arrow import group_of, unpacked
from actors.engines import Completion, Sampling, sampling_for
from actors.filtering.rules import RULES
from actors.grading.client import VerifierClient
from actors.grading.labels import Completer
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.rollouts.rollout import Wanted, response_seed
from actors.settings import GeneratorSettings, RolloutSettings, RoundSettings
from actors.types import EngineSpec, Finish, Purpose, RolloutRequest, SamplingSpec, Summary
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from rewards import Case, ChatMessage, Outcome, Question, RewardSettings, Verdict
from tests.builders import prompt, verdict
from tests.doubles import InProcess, Letters
from tests.runs import Runs, demo, responses_of
from tests.tokenizers import chatty

PAPER = EngineSpec(
    model="", dtype="float32", seed=0, max_model_len=64, tensor_parallel=1, backend="", on_cpu=True,
    engine=GeneratorSettings(),
)  # fmt: skip
REQUEST = RolloutRequest(group=3, prompt=prompt("7"), visit=1)
# Of its responses 0 and 1 and of its greedy one, in a run with seed 0.
SEEDS = [117567504984943, 117567504984944, 117567504984942]
GREEDY = -1  # how the engine of paper numbers the greedy response
AT_ONCE, HALF = RoundSettings(), RoundSettings(size=2)  # of groups of four


def seed_of(purpose: Purpose, number: int) -> int:
    return response_seed(0, Wanted(request=REQUEST, purpose=purpose, number=number))


class Engine:
    """Answers sample number n with the text of the n-th score, and keeps the number and how it was sampled."""

    max_model_len, tokenizer = 64, Letters()

    def __init__(self, scores: list[float | None]) -> None:
        self.scores, self.sampled = scores, dict[int, Sampling]()
        self.requests: list[int] = []  # completions of each
        self._numbers = {seed_of(Purpose.TRAINING, number): number for number in range(len(scores))}
        self._numbers[seed_of(Purpose.GREEDY_BASELINE, 0)] = GREEDY

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        self.requests.append(sampling.completions)
        numbers = [self._numbers[each] for each in range(seed, seed + sampling.completions)]
        assert (sampling.temperature == 0) is (numbers == [GREEDY])
        self.sampled |= dict.fromkeys(numbers, sampling)
        return [completion(str(self.scores[max(number, 0)]).ljust(number + 8)) for number in numbers]


def completion(text: str, version: int = 0) -> Completion:
    ids = np.array([ord(letter) for letter in text], np.int32)
    logprobs = np.full(ids.size, -0.5, np.float32)
    versions = np.full(ids.size, version, np.int32)
    return Completion(tokens=ids, logprobs=logprobs, versions=versions, finish=Finish.STOP, shown=())


class Verifier:
    """Reads the score in the response."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    async def grade(self, questions: list[Question]) -> list[Verdict]:
        self.cases += [question.case for question in questions]
        texts = [question.case.response.strip() for question in questions]
        return [verdict(None if text == "None" else float(text)) for text in texts]


class OnPaper(Generator):
    def __init__(self, scores: list[float | None]) -> None:
        super().__init__(PAPER, [InProcess(Verifier())])
        self.paper: Any = Engine(scores)

    async def start(self) -> None:
        self._engine = self.paper


async def rolled(
    scores: Sequence[float | None],
    rounds: RoundSettings,
    drop: str = "both",
    greedy: bool = False,
    evaluated: int | None = None,
    size: int | None = None,
) -> tuple[Summary, Any, list[int]]:
    """A group of `size`, or of all these scores: its summary, as it travels, and which samples were drawn."""
    generator = OnPaper(list(scores))
    await generator.start()
    rollout = RolloutSettings(group_size=size or len(scores), rounds=rounds)
    run = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=greedy, drop=RULES[drop])
    await generator.begin(run)
    purpose = Purpose.TRAINING if evaluated is None else Purpose.EVALUATION
    summary, batch = await generator.rollout(replace(REQUEST, purpose=purpose, responses=evaluated))
    return summary, batch, sorted(generator.paper.sampled)


class Counted:
    """The handle of a generator in this process: its calls of several groups and of one, by the ids of the groups."""

    def __init__(self, generator: Generator) -> None:
        self.calls: list[list[int]] = []
        self.begin, self._generator = InProcess(generator).begin, generator
        self.rollout, self.rollouts = self, self

    def options(self, num_returns: int) -> "Counted":
        return self

    def remote(self, asked: RolloutRequest | list[RolloutRequest]) -> list[Any]:
        several = isinstance(asked, list)
        self.calls.append([each.group for each in asked] if several else [asked.group])
        made = asyncio.create_task((self._generator.rollouts if several else self._generator.rollout)(asked))

        async def returned(place: int) -> Any:
            return (await asyncio.shield(made))[place]

        return [returned(0), *(asyncio.ensure_future(returned(1 + n)) for n in range(len(asked) if several else 1))]


@pytest.mark.parametrize("score", [1.0, -1.0])
async def test_a_round_that_is_all_equal_spares_the_rest(score: float) -> None:
    summary, _, sampled = await rolled([score, score, -score, -score], HALF)
    assert sampled == [0, 1]
    assert summary.scores == (score, score)
    assert len(summary.outcomes) == len(summary.lengths) == 2
    assert RULES["both"](np.array(summary.scores))  # so the filter rejects it


@pytest.mark.parametrize("greedy", [False, True])
async def test_a_group_that_goes_on_is_the_one_that_would_have_been_sampled_at_once(greedy: bool) -> None:
    scores: list[float | None] = [1.0, -1.0, 1.0, 1.0]
    _, staged, sampled = await rolled(scores, HALF, greedy=greedy)
    _, whole, all_sampled = await rolled(scores, AT_ONCE, greedy=greedy)
    assert staged.equals(whole)
    assert sampled == all_sampled == list(range(-greedy, 4))


@pytest.mark.parametrize(
    ("drop", "spared"),
    [("both", (True, True)), ("all-wrong", (False, True)), ("all-correct", (True, False)), ("none", (False, False))],
)
async def test_only_what_the_filter_would_reject_is_spared(drop: str, spared: tuple[bool, bool]) -> None:
    for score, fewer in zip((1.0, -1.0), spared, strict=True):
        summary, _, _ = await rolled([score] * 4, HALF, drop=drop)
        assert len(summary.outcomes) == (2 if fewer else 4)


async def test_a_round_without_two_verdicts_decides_nothing() -> None:
    summary, _, _ = await rolled([None, 1.0, 1.0, 1.0], HALF)
    assert len(summary.outcomes) == 4


RIGHT, WRONG = 1.0, -1.0


@pytest.mark.parametrize(
    ("scores", "rounds", "drop", "sampled"),
    [
        ([WRONG] * 16, RoundSettings(size=4, most=3), "both", 12),  # given up after its rounds
        ([WRONG] * 6 + [RIGHT] + [WRONG] * 9, RoundSettings(size=4, most=3), "both", 8),  # more than a group
        ([WRONG] * 16, RoundSettings(size=4, most=3), "all-correct", 4),  # which the filter would keep
        ([WRONG, WRONG, RIGHT, WRONG] * 4, RoundSettings(size=2, most=3), "both", 4),
        ([RIGHT, WRONG, RIGHT, RIGHT, RIGHT, WRONG] * 2, RoundSettings(size=2, most=6, enough=2), "both", 6),
        ([RIGHT, WRONG, RIGHT, RIGHT] * 3, RoundSettings(size=2, most=6, enough=2), "all-wrong", 4),  # wrong: not asked
        ([WRONG, RIGHT] + [WRONG] * 10, RoundSettings(size=2, most=5, enough=2), "both", 10),  # kept with too few
        ([RIGHT, WRONG] + [RIGHT] * 10, RoundSettings(size=2, most=5), "both", 4),  # filled up to a group
    ],
)
@pytest.mark.parametrize("greedy", [False, True])
async def test_a_group_has_rounds_until_it_has_enough(
    scores: list[float], rounds: RoundSettings, drop: str, sampled: int, greedy: bool
) -> None:
    summary, _, numbers = await rolled(scores, rounds, drop, greedy, size=4)
    assert summary.scores == tuple(scores[:sampled])
    assert len(summary.lengths) == sampled  # every one is counted
    is_kept = not RULES[drop](np.array(summary.scores))
    assert numbers == list(range(-(greedy and is_kept), sampled))


async def test_rounds_that_fill_up_a_group_bring_what_would_have_been_sampled_at_once() -> None:
    scores = [WRONG, WRONG, WRONG, RIGHT, RIGHT, WRONG, RIGHT, RIGHT]
    _, in_rounds, _ = await rolled(scores, RoundSettings(size=2, most=3))
    _, whole, _ = await rolled(scores, AT_ONCE)
    assert in_rounds.equals(whole)


async def test_an_evaluation_and_a_spared_group_get_no_more_than_they_ask_for() -> None:
    assert (await rolled([1.0] * 4, HALF, greedy=True))[2] == [0, 1]
    assert (await rolled([1.0] * 4, HALF, greedy=True, evaluated=3))[2] == [0, 1, 2]


def test_evaluations_and_labels_draw_from_the_whole_distribution_and_the_greedy_baseline_from_none() -> None:
    rollout = RolloutSettings(temperature=0.7, top_p=0.9, max_new_tokens=5)
    found = {purpose: sampling_for(purpose, rollout) for purpose in Purpose}
    assert found[Purpose.TRAINING] == Sampling(temperature=0.7, top_p=0.9, max_tokens=5)
    assert found[Purpose.EVALUATION] == found[Purpose.LABEL] == Sampling(temperature=0.7, top_p=1.0, max_tokens=5)
    assert found[Purpose.GREEDY_BASELINE] == Sampling(temperature=0.0, top_p=1.0, max_tokens=5)


@pytest.mark.parametrize(("first", "requests"), [(0, [1, 4]), (2, [1, 2, 2])])
async def test_short_answers_of_a_group_are_sampled_by_one_request_and_are_those_that_several_would_bring(
    first: int, requests: list[int]
) -> None:
    scores: list[float | None] = [1.0, -1.0, None, 1.0]
    found = []
    for longest in (64, 65):
        generator = OnPaper(scores)
        await generator.start()
        rollout = RolloutSettings(group_size=4, rounds=RoundSettings(size=first), max_new_tokens=longest)
        run = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=True, drop=RULES["both"])
        await generator.begin(run)
        found.append((generator.paper.requests, await generator.rollout(REQUEST)))
    (together, (_, batch)), (alone, (_, same)) = found
    assert sorted(together) == requests
    assert alone == [1] * 5
    assert batch.equals(same)


async def test_a_group_that_is_given_up_ends_its_request() -> None:
    class Stuck(Engine):
        ended = False

        async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = True
            raise AssertionError

    generator = OnPaper([1.0, 1.0])
    generator.paper = Stuck([1.0, 1.0])
    await generator.start()
    rollout = RolloutSettings(group_size=2, max_new_tokens=8, timeout_seconds=0.3)
    await generator.begin(SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False))
    with pytest.raises(TimeoutError):
        await generator.rollout(REQUEST)
    assert generator.paper.ended


def test_the_seeds_of_a_group_follow_each_other_and_are_what_they_always_were() -> None:
    wanted = (Purpose.TRAINING, 0), (Purpose.EVALUATION, 1), (Purpose.GREEDY_BASELINE, 0)
    assert [seed_of(purpose, number) for purpose, number in wanted] == SEEDS


async def test_a_group_that_is_still_sampled_when_its_run_ends_is_given_up() -> None:
    class Stuck(Engine):
        async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
            await asyncio.Event().wait()
            raise AssertionError

    generator = OnPaper([1.0, 1.0])
    generator.paper = Stuck([1.0, 1.0])
    await generator.start()
    run = SamplingSpec(seed=0, rollout=RolloutSettings(group_size=2), reward=RewardSettings(), greedy=False)
    await generator.begin(run)
    flying = asyncio.create_task(generator.rollout(REQUEST))
    await asyncio.sleep(0)
    await generator.begin(run)
    with pytest.raises(RuntimeError, match="group 3 was given up: its run has ended"):
        await flying


async def test_the_beginning_of_a_response_that_is_completed_opens_no_turn() -> None:
    class Recorder:
        """Keeps the tokens that it is to go on with."""

        max_model_len, tokenizer = 64, chatty()

        async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
            seen.append(list(tokens))
            return [completion("")]

    seen: list[list[int]] = []
    completer = Completer(PAPER)
    completer._engine = Recorder()  # type: ignore[assignment]
    start, end = (Recorder.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    await completer.complete([start, end], "1<|im_end|><|im_start|>user", 1, RolloutSettings())
    assert seen[0][:2] == [start, end]
    assert not {start, end} & set(seen[0][2:])


@pytest.mark.parametrize("longest", [64, 65])  # together, and each in an episode of its own
async def test_rewards_are_given_the_messages_of_the_prompt(longest: int) -> None:
    verifier, generator = Verifier(), OnPaper([1.0, -1.0])
    generator._verifiers = [VerifierClient(InProcess(verifier))]
    await generator.start()
    rollout = RolloutSettings(group_size=2, max_new_tokens=longest)
    run = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False, drop=RULES["both"])
    await generator.begin(run)
    said = (ChatMessage("system", "s"), ChatMessage("user", "q"))
    await generator.rollout(replace(REQUEST, prompt=replace(REQUEST.prompt, question="q", messages=said)))
    assert [(case.question, case.messages) for case in verifier.cases] == [("q", said)] * 2


@pytest.mark.parametrize("longest", [64, 65])
async def test_siblings_whose_reward_compares_them_are_graded_in_one_call_without_rounds(
    longest: int, tmp_path: Path
) -> None:
    class Ranks(Verifier):
        """Only the best of a group is right."""

        async def grade_group(self, questions: list[Question]) -> list[Verdict]:
            groups.append(len(questions))
            values = [float(question.case.response) for question in questions]
            return [verdict(1.0 if value == max(values) else -1.0) for value in values]

    groups: list[int] = []
    file = tmp_path / "mine.py"
    file.write_text("def reward_group(responses, reference, prompt):\n    return [1.0] * len(responses)\n")
    reward = RewardSettings(**{"name": "own", "own": {"file": str(file)}})
    assert reward.wants_group("own")
    ranks = Ranks()
    generator = OnPaper([0.5, 2.0, 1.0, 2.0])
    generator._verifiers = [VerifierClient(InProcess(ranks))]
    await generator.start()
    rollout = RolloutSettings(group_size=4, rounds=HALF, max_new_tokens=longest)
    run = SamplingSpec(seed=0, rollout=rollout, reward=reward, greedy=True, drop=RULES["both"])
    await generator.begin(run)
    request = replace(REQUEST, prompt=replace(REQUEST.prompt, reward="own"))
    summary, _ = await generator.rollout(request)
    assert groups == [4]
    assert len(ranks.cases) == 1  # the greedy response is nobody's sibling
    assert summary.scores == (-1.0, 1.0, -1.0, 1.0)


@pytest.mark.parametrize(
    ("rounds", "problem"),
    [
        ({"size": 1}, "size must be 0, or at least 2 and below rollout.group_size = 8, .* got 1"),
        ({"size": 8}, "size must be 0, or at least 2 and below rollout.group_size = 8, .* got 8"),
        ({"size": -2}, "size must be 0, or at least 2 and below rollout.group_size = 8, .* got -2"),
        ({"size": 9, "most": 2}, "or as large with rollout.rounds.most above 1, got 9"),
        ({"most": 2}, "rollout.rounds.most = 2 needs rollout.rounds.size"),
        ({"size": 4, "enough": 2}, "and 1 where there is one round .* got 2"),
        ({"size": 4, "most": 2, "enough": 9}, "enough must be at most rollout.group_size = 8, .* got 9"),
    ],
)
def test_rounds_that_could_spare_nothing_are_refused(rounds: dict[str, int], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_of({"world": {"name": "addition"}, "rollout": {"rounds": rounds}})


@pytest.mark.ray
def test_in_a_whole_run_kept_groups_are_whole_and_spared_ones_are_rejected(runs: Runs, tmp_path: Path) -> None:
    overrides = ("warmup.updates=120", "rollout.rounds.size=2", "rollout.choose=likely-mixed")
    rows = responses_of(runs.train(demo(tmp_path, *overrides)))
    sizes: dict[str, set[int]] = {"": set(), "all_correct": set(), "all_wrong": set(), "never trained": set()}
    for number in {row["group"] for row in rows}:
        group = [row for row in rows if row["group"] == number]
        sizes[group[0]["rejected"]].add(len(group))
    assert sizes[""] == {8}
    assert sizes["never trained"] <= {8}
    assert sizes["all_correct"] | sizes["all_wrong"] == {2}


async def test_what_ends_a_response_is_the_same_for_every_purpose() -> None:
    rollout = RolloutSettings(stop=("</answer>",), stop_token_ids=(7,), min_tokens=3, max_new_tokens=9)
    for purpose in Purpose:
        sampling = sampling_for(purpose, rollout)
        assert (sampling.stop, sampling.stop_token_ids, sampling.min_tokens) == (("</answer>",), (7,), 3)


async def test_a_prompt_that_leaves_no_room_for_a_short_answer_is_no_verdict_and_asks_no_engine() -> None:
    generator = OnPaper([1.0, 1.0])
    await generator.start()
    rollout = RolloutSettings(group_size=2, max_new_tokens=8)
    await generator.begin(SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False))
    request = replace(REQUEST, prompt=prompt("7", tokens=[1] * generator.paper.max_model_len))
    summary, _ = await generator.rollout(request)
    assert summary.outcomes == (Outcome.ERROR, Outcome.ERROR)
    assert generator.paper.requests == []


@pytest.mark.parametrize("longest", [64, 65])
async def test_a_verdict_that_cannot_be_stored_costs_its_siblings_nothing(longest: int) -> None:
    class Careless(Verifier):
        async def grade(self, questions: list[Question]) -> list[Verdict]:
            verdicts = await super().grade(questions)
            odd: Any = {"share": "two thirds"}
            return [replace(each, parts=odd) if each.score == 1.0 else each for each in verdicts]

    generator = OnPaper([1.0, -1.0, -1.0])
    generator._verifiers = [VerifierClient(InProcess(Careless()))]
    await generator.start()
    rollout = RolloutSettings(group_size=3, max_new_tokens=longest)
    await generator.begin(SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False))
    summary, batch = await generator.rollout(REQUEST)
    assert summary.outcomes == (Outcome.ERROR, Outcome.WRONG, Outcome.WRONG)
    assert summary.scores == (-1.0, -1.0)
    assert "cannot be stored: parts = [[('share', 'two thirds')]]" in summary.failure
    assert group_of(unpacked(batch)).verdicts[1].score == -1.0


async def test_several_groups_of_one_call_are_those_of_a_call_each_and_a_failure_is_of_its_group() -> None:
    class Choosy(Engine):
        async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
            if len(tokens) == 1:
                raise ValueError("no prompt of one token")
            return [completion(str(float(seed % 2)))]

    generator = OnPaper([1.0, -1.0])
    generator.paper = Choosy([1.0, -1.0])
    await generator.start()
    run = SamplingSpec(seed=0, rollout=RolloutSettings(group_size=2), reward=RewardSettings(), greedy=False)
    await generator.begin(run)
    requests = [replace(REQUEST, group=number, visit=number) for number in range(3)]
    requests[1] = replace(requests[1], prompt=prompt("7", tokens=[1]))
    found, *groups = await generator.rollouts(requests)
    assert isinstance(found[1].cause, ValueError)
    assert "no prompt of one token" in found[1].traceback_str
    assert groups[1] is None
    for place in (0, 2):
        summary, packed = await generator.rollout(requests[place])
        assert (summary.id, summary.scores, summary.lengths) == (place, found[place].scores, found[place].lengths)
        assert packed.equals(groups[place])


async def test_a_slow_group_holds_up_no_other_of_its_call_and_comes_by_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(Engine):
        async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
            if len(tokens) == 1:
                await going_on.wait()
            return [completion("1.0")] * sampling.completions

    monkeypatch.setattr("actors.rollouts.generator.SLOW", 0.0)
    going_on = asyncio.Event()
    generator = OnPaper([1.0, -1.0])
    generator.paper = Slow([1.0, -1.0])
    await generator.start()
    rollout = RolloutSettings(group_size=2, max_new_tokens=8)
    handle = Counted(generator)
    client = GeneratorClient("generator-0", handle)
    await client.begin(SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False))
    requests = [replace(REQUEST, group=number, visit=number) for number in range(3)]
    requests[1] = replace(requests[1], prompt=prompt("7", tokens=[1]))
    groups = [asyncio.create_task(client.rollout(request)) for request in requests]
    assert [(await groups[place])[0].id for place in (0, 2)] == [0, 2]
    assert not groups[1].done()
    going_on.set()
    assert (await groups[1])[0].id == 1
    assert handle.calls == [[0, 1, 2], [1]]


async def test_a_generator_that_has_enough_to_do_gets_full_calls() -> None:
    class Waiting(Engine):
        async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
            if len(tokens) == 1:
                await going_on.wait()
            return [completion("1.0")] * sampling.completions

    going_on = asyncio.Event()
    generator = OnPaper([1.0, -1.0])
    generator.paper = Waiting([1.0, -1.0])
    await generator.start()
    handle = Counted(generator)
    client = GeneratorClient("generator-0", handle)
    rollout = RolloutSettings(group_size=2, max_new_tokens=8)
    await client.begin(SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False))

    def ask(*numbers: int) -> list[asyncio.Task[Any]]:
        requests = (replace(REQUEST, group=number, prompt=prompt("7", tokens=[1])) for number in numbers)
        return [asyncio.create_task(client.rollout(request)) for request in requests]

    async def settle() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    asked = ask(*range(61))
    await settle()
    asked += ask(61, 62)
    await settle()
    asked += ask(63, 64)  # with the first of these it has enough
    await settle()
    asked += ask(65, 66)
    await settle()
    sizes = [8] * 7 + [5, 2, 2]
    assert [len(call) for call in handle.calls] == sizes
    asked += ask(*range(67, 74))
    await settle()
    assert handle.calls[len(sizes) :] == [[65, 66, *range(67, 73)]]
    going_on.set()
    assert sorted(summary.id for summary, _ in await asyncio.gather(*asked)) == [*range(74)]
    assert handle.calls[len(sizes) + 1 :] == [[73]]
