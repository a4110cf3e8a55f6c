"""A seat of the policy, which holds one conversation.

A conversation is a token stream that is only ever appended to (`actors.rollouts.stream`). Text of the environment is
tokenized once, when it is added; a stream of its own begins only where the chat template shows the past otherwise than
it was (`actors.rollouts.chat`). Another seat may go on from any place of the last turn (`Seat.fork`).
"""

import asyncio
import shlex
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from actors.data.messages import Call
from actors.engines import Completion
from actors.errors import DataError
from actors.rollouts.chat import TOOL
from actors.rollouts.episode import PLAYED, Episode, Misuse, Response, Task
from actors.rollouts.lines import here
from actors.rollouts.offers import AUTO
from actors.rollouts.past import Past
from actors.rollouts.serving.address import Address
from actors.rollouts.serving.agent import AgentFailed
from actors.rollouts.serving.conversations import Conversations
from actors.rollouts.speaker import Speaker
from actors.rollouts.steps import Step, cut_behind
from actors.rollouts.stream import Stream, Turn, Whose
from actors.rollouts.using import called_here
from actors.tools.tool import Limits, Result, failure
from actors.tools.worker import Work
from actors.types import Finish
from rewards import Case, SpanReward, Verdict

Answer = TypeVar("Answer")


class Seat:
    """One conversation between the policy and an environment. Call it to say something and have the policy answer."""

    def __init__(self, episode: Episode, whose: Whose, system: str | None = None, *, trained: bool = True) -> None:
        """
        Args:
            episode: that it is part of.
            whose: what its streams say of it.
            system: a system message before everything else; None for that of the data.
            trained: whether its turns are trained on; what it is at the end counts.
        """
        self.name, self.trained, self.busy = whose.seat, trained, False
        self._episode, self._whose, self._system = episode, whose, system
        self._speaker = Speaker(episode, whose.seat, system)
        self._forks = 0  # that it has made
        self._heirs: tuple[tuple[Seat, int], ...] = ()  # forks from its end, and how often it was asked then
        self._address: Address | None = None  # where agents ask it
        self._asked: tuple[Future[Any], ...] = ()  # what the environment waits for, or has waited for
        episode.seats[whose.seat] = self

    def tools(
        self,
        tools: Sequence[Any],
        *,
        form: str = AUTO,
        seconds: float = 30.0,
        memory_mib: int = 2048,
        max_characters: int = 4000,
    ) -> None:
        """Offers tools to the policy, before the conversation begins. What it calls of them is in `Turn.calls`.

        Args:
            tools: functions whose signature and docstring say what they take, and ready ones of `actors.tools`. May be
                called several times, where the tools differ in their limits.
            form: how calls are written: "auto" takes the model's own format, or "json" where its chat template shows
                none; else "json", "hermes", "qwen3_coder", "mistral" or "llama".
            seconds: most that a call of these may take.
            memory_mib: most memory of the process in which one runs.
            max_characters: most of a result that the policy reads.
        """
        self._refuse_misuse()
        if self._past.turns:
            raise self._misuse("offers tools when the conversation has begun: offer them before the first turn")
        try:
            limits = Limits(seconds=seconds, memory_mib=memory_mib, max_characters=max_characters)
            self._past.toolbox = self._past.toolbox.plus(tools, form, limits, self._episode.means.file)
        except ValueError as problem:
            raise self._misuse(f"offers tools, and {problem}") from None

    async def run(self, calls: Sequence[Call]) -> list[str]:
        """What the tools give for these calls, in order; they run at the same time. A call that fails gives a text that
        says so."""
        self._refuse_misuse()
        if unknown := [call.name for call in calls if not call.problem and call.name not in self._past.toolbox.tools]:
            raise self._misuse(f"runs the tool {unknown[0]!r}, which the seat {self.name!r} does not have")
        results = await asyncio.gather(*map(self._result, calls))
        self._episode.failed_calls += sum(result.failed for result in results)
        return [result.text for result in results]

    async def use(self, said: str | Task, rounds: int = 4, max_tokens: int | None = None) -> Turn:
        """Says something, and as long as the policy calls tools runs them and says what they give.

        Args:
            said: as in a call of the seat.
            rounds: most times that tools are run.
            max_tokens: most tokens of each turn.

        Returns:
            The first turn without a call, or the last one.
        """
        turn = await self(said, max_tokens=max_tokens)
        for _ in range(rounds):
            if not turn.calls:
                break
            turn = await self(await self.run(turn.calls), TOOL, max_tokens)
        return turn

    async def __call__(
        self,
        said: str | Task | Sequence[str],
        role: str = "user",
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Turn:
        """Adds what somebody says, which nobody trains on, then samples a turn of the policy.

        A text is only text: what tools, users and data say opens no turn and ends none; that is done by the model's
        chat template. Where there is none, nothing stands around a text. When the conversation has no room left, or
        the episode no turn (`rollout.max_turns`), nothing is added, the turn is empty and its finish is LENGTH.

        Args:
            said: a text; the task, which opens a conversation as the data say it; or the texts of several tools.
            role: who says it: "user" or "tool".
            max_tokens: most tokens of the turn, beside `rollout.max_new_tokens` for all turns together.
            stop: texts behind which sampling ends, beside `rollout.stop`; `more` goes on with the turn.
        """
        if self._episode.home is None:
            return await self._speaker.say(said, role, max_tokens, ())
        stops = self._free_to_ask(stop)
        if self._speaker.count.turns >= 2 * self._episode.means.max_turns:
            raise self._misuse(
                f"goes on asking for turns behind the last of rollout.max_turns = {self._episode.means.max_turns}: end "
                "the episode where a turn's finish is 'length'"
            )
        return await self._asked_at_home(self._speaker.say(said, role, max_tokens, stops))

    async def more(self, *, stop: str | Sequence[str] = (), max_tokens: int | None = None) -> Turn:
        """Has the policy go on with its last turn where it left off; nobody says anything between, and it counts as no
        turn of `rollout.max_turns`. When the turn has ended, or has no room left, nothing is added.

        Args:
            stop: texts behind which sampling ends, beside `rollout.stop`. A token stays whole in which one ends.
            max_tokens: most tokens of this step.

        Returns:
            What was sampled now, a step; `turn` is all of it.
        """
        stops = self._free_to_ask(stop)
        if not self._past.turns:
            raise self._misuse(f"has the seat {self.name!r} go on with a turn, and it has none: say something first")
        if self._speaker.asks_in_vain >= 2 * self._episode.means.max_turns:
            raise self._misuse("goes on asking for more of a turn that has ended: see `ended` of what `more` returns")
        return await self._asked_at_home(self._speaker.more(stops, max_tokens))

    def fork(self, at: int | None = None, *, trained: bool | None = None) -> "Seat":
        """Another seat, whose conversation is what this one's is now, token for token, and that goes on by itself.

        What both share is part of each: a fork that is trained is a response with all of its path. This seat is none
        itself where it says nothing more and such a fork has spoken.

        Args:
            at: sampled tokens of the last turn that are in it, such as `Step.end`; None for all.
            trained: whether its turns are trained on; None as this seat's.
        """
        self._refuse_misuse()
        if self.busy or self._address is not None:
            why = "an agent asks by its address" if self._address is not None else "is in the middle of its turn"
            raise self._misuse(f"forks the seat {self.name!r}, which {why}")
        tokens = self.turn.tokens if self._past.turns else 0
        if at is not None and not (isinstance(at, int) and 0 <= at <= tokens):
            raise self._misuse(f"forks the seat {self.name!r} at token {at!r} of its turn, which has {tokens}")
        at_end = at is None or at == tokens
        whose, trains = replace(self._whose, seat=self._free_name()), self.trained if trained is None else trained
        fork = Seat(self._episode, whose, self._system, trained=trains)
        fork._speaker = self._speaker.forked(fork.name, None if at_end else at)
        if at_end:
            self._heirs += ((fork, self._speaker.asks),)
        return fork

    def steps(self, stop: str) -> list[Step]:
        """The last turn, cut behind each of these texts; a token stays whole in which one ends."""
        self._refuse_misuse()
        if not isinstance(stop, str) or not stop:
            raise self._misuse(f"takes steps up to {stop!r:.80}: give a text")
        if self._past.last_stream is None or not self.turn.tokens:
            return []
        tokenizer = self._episode.means.engine.tokenizer
        return cut_behind(stop, self.turn.text, self._past.last_stream.last_turn, tokenizer)

    @property
    def turn(self) -> Turn:
        """The last turn, all of it."""
        if not self._past.turns:
            raise self._misuse(f"asks for the last turn of the seat {self.name!r}, which has none")
        return self._past.turns[-1]

    def _free_to_ask(self, stop: str | Sequence[str]) -> tuple[str, ...]:
        """The texts to stop at. Raises Misuse where the seat cannot be asked for a turn now."""
        self._refuse_misuse()
        if self._address is not None:
            raise self._misuse(
                f"asks the seat {self.name!r}, which an agent asks by its address: take another seat for what you say "
                "yourself"
            )
        if self.busy:
            raise self._misuse(f"asks the seat {self.name!r} again while its turn is being sampled")
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(isinstance(text, str) and text for text in stops):
            raise self._misuse(f"stops at {stop!r:.80}: give a text, or several")
        return stops

    @property
    def url(self) -> str:
        """The address of an OpenAI-compatible server that is there for this seat of this episode alone: the policy
        answers there, in as many conversations as an agent has, and all of them are the seat's response."""
        self._refuse_misuse()
        return self._at_address().url

    async def agent(
        self, command: Sequence[str], seconds: float | None = None, variables: Mapping[str, str] | None = None
    ) -> str:
        """Runs a program that asks the policy by the seat's address, and gives what it prints, the last 256 KiB.

        It finds OPENAI_BASE_URL, OPENAI_API_KEY and the task's question as TASK in its environment, and starts in the
        folder of the environment's file. Where it ends with another status than 0, or takes too long, the episode has
        failed. When this returns its processes have ended, but for one that left its session and lost its parent.

        Args:
            command: program and arguments; "python" is the one that runs winnow.
            seconds: that it may take, beside `rollout.episode_seconds`.
            variables: more for its environment.
        """
        self._refuse_misuse()
        episode = self._episode
        known = {"TASK": episode.task.question} | dict(variables or {})
        running = self._at_address().start(command, known, Path(episode.means.file).parent, seconds)
        self._asked += (running,)
        try:
            return await asyncio.wrap_future(running)
        except AgentFailed as failure:
            raise self._misuse(f"the agent {shlex.join(command)[:200]} {failure}") from None

    async def grade(self, text: str | None = None) -> Verdict:
        """The verdict of the run's reward on all that the seat has said so far, or on a text in its place, such as its
        last turn."""
        if self._episode.home is None:
            return await self._graded(text)
        self._refuse_misuse()
        return await self._at_home(self._episode.home, self._graded(text))

    def reward(self, value: float) -> None:
        """Rewards the seat's last turn, on its last token, beside what the episode is worth; needs
        `reward.span_weight`."""
        self._refuse_misuse()
        weight = self._episode.means.span_weight
        if not weight:
            raise self._misuse("rewards a turn, and reward.span_weight = 0 gives such rewards no weight")
        if not self._past.turns or not self._past.turns[-1].tokens:
            raise self._misuse("rewards a turn in which nothing was said")
        assert self._past.last_stream is not None  # in which the turn is
        self._past.last_stream.reward(weight * float(value))

    @property
    def response(self) -> str:
        """The text of all turns, one behind the other, stream by stream; span rewards count its characters."""
        return self._past.text

    @property
    def new_tokens(self) -> int:
        """Tokens that were sampled in its conversation so far."""
        return self._past.tokens

    @property
    def sampled(self) -> int:
        """Tokens that it has sampled itself, and no seat that it was forked from."""
        return self._speaker.sampled

    @property
    def is_response(self) -> bool:
        """Whether what it said is a response: it has sampled a turn, be it an empty one, and no trained fork has gone
        on from its end."""
        heirs = [fork for fork, asks in self._heirs if asks == self._speaker.asks]
        return self._spoke and not any(fork.goes_on for fork in heirs)

    @property
    def goes_on(self) -> bool:
        """Whether it is trained and has spoken, or a fork of it is."""
        return (self.trained and self._spoke) or any(fork.goes_on for fork, _ in self._heirs)

    @property
    def _past(self) -> Past:
        """What was said in its conversation."""
        return self._speaker.past

    @property
    def _spoke(self) -> bool:
        return self._speaker.asks > 0 and self._past.begun

    def said(self, verdict: Verdict) -> Response:
        """All of it, with its verdict."""
        streams, finish = self._past.streams, self._past.turns[-1].finish
        finishes = [Finish.STOP] * (len(streams) - 1) + [finish]
        return Response(
            tuple(stream.trajectory(self._whose, end) for stream, end in zip(streams, finishes, strict=True)),
            tuple(stream.rewards for stream in streams) if any(stream.rewarded for stream in streams) else (),
            verdict,
        )

    def give_up(self) -> None:
        """Ends what the environment waits for."""
        for asked in self._asked:
            asked.cancel()
        if self._address is not None:
            self._address.give_up()

    def shut(self) -> None:
        """Nothing is behind its address any more."""
        if self._address is not None:
            self._address.shut()

    def add(self, stream: Stream, said: np.ndarray, completion: Completion, turn: Turn, speaker: str) -> None:
        """A turn has been sampled behind token ids int32[any number] that come into a stream with it; the speaker is
        as for `Stream.add`."""
        self._speaker.add(stream, said, completion, turn, speaker)

    def say_nothing(self) -> Turn:
        """A turn for which there is no room."""
        return self._speaker.say_nothing()

    async def _result(self, call: Call) -> Result:
        """What a call of a tool gives, where it is to be run."""
        means = self._episode.means
        if call.problem:
            return failure(call.problem)
        tool = self._past.toolbox.tools[call.name]
        if callable(tool.work):
            found = await called_here(tool, call, means.file)
        else:
            assert means.runner is not None  # the environment is a person's own
            assert self._episode.home is not None
            work = Work(kind=tool.work, name=tool.name, arguments=call.arguments, limits=tool.limits)
            found = await self._at_home(self._episode.home, means.runner.use(work))
        if found.broken:
            raise self._misuse(f"offers the tool {tool.name}, which cannot be used: {found.why}")
        if means.runner is not None:
            means.runner.tell(tool.name, found)
        return found

    def _free_name(self) -> str:
        """The name of another fork."""
        self._forks += 1
        while (name := f"{self.name}.{self._forks}") in self._episode.seats:
            self._forks += 1
        return name

    async def _graded(self, text: str | None) -> Verdict:
        task, whole = self._episode.task, self.response
        verdict = await self._episode.grade(
            task.reward,
            Case(
                response=whole if text is None else text,
                reference=task.reference,
                prompt=task.question if task.prompt is None else task.prompt.text,
                question=task.question,
                messages=() if task.prompt is None else task.prompt.messages,
                tokens=self.new_tokens,
                max_new_tokens=self._episode.means.sampling.max_tokens,
            ),
        )
        if text is None or not verdict.span_rewards:
            return verdict
        before = whole.rfind(text)  # of the response, whose characters span rewards count
        if before < 0:  # the text is not one that the seat has said
            return replace(verdict, span_rewards=())
        moved = [SpanReward(start=s.start + before, end=s.end + before, value=s.value) for s in verdict.span_rewards]
        return replace(verdict, span_rewards=tuple(moved))

    async def _asked_at_home(self, asked: Coroutine[Any, Any, Turn]) -> Turn:
        """The turn that is sampled in the loop that the episode belongs to; the seat is asked for nothing meanwhile."""
        assert self._episode.home is not None  # the environment is a person's own
        self.busy = True
        try:
            return await self._at_home(self._episode.home, asked)
        finally:
            self.busy = False

    async def _at_home(self, home: asyncio.AbstractEventLoop, asked: Coroutine[Any, Any, Answer]) -> Answer:
        """What a coroutine gives that touches the episode, run in the loop that the episode belongs to."""
        episode = self._episode
        under_way = asyncio.run_coroutine_threadsafe(asked, home)
        self._asked += (under_way,)
        try:
            return await asyncio.wrap_future(under_way)
        except (Misuse, DataError) as problem:
            raise self._misuse(str(problem)) from None
        except Exception as failure:
            episode.broken = episode.broken or failure
            raise

    def _at_address(self) -> Address:
        """Where agents ask it."""
        if self._address is None:
            if self._past.turns or self.busy:
                raise self._misuse(f"takes the address of the seat {self.name!r}, which has spoken: take another seat")
            endpoint = self._episode.means.endpoint
            assert endpoint is not None  # the environment is a person's own
            self._address = Address(endpoint, Conversations(self, self._episode, self._system))
        return self._address

    def _refuse_misuse(self) -> None:
        """Raises Misuse where the caller is not part of the episode, or the episode has ended."""
        episode, played = self._episode, PLAYED.get()
        if played is not episode:
            why = "writes into the stream of another episode"
            if played is not None:
                played.fail(f"{here(episode.means.file) or episode.means.where}: {why}")
            raise Misuse(why)
        if episode.over:
            raise self._misuse("goes on after its episode has ended")

    def _misuse(self, why: str) -> Misuse:
        """Fails the episode for what the caller did."""
        means = self._episode.means
        self._episode.fail(f"{here(means.file) or means.where}: {why}")
        return Misuse(why)
