"""A seat of the policy, which holds one conversation.

A conversation is a token stream that is only ever appended to (`actors.rollouts.stream`). Text of the environment is
tokenized once, when it is added; a stream of its own begins only where the chat template shows the past otherwise than
it was (`actors.rollouts.chat`).
"""

import asyncio
import shlex
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from actors.data.messages import Call, Message
from actors.engines import Completion
from actors.errors import DataError
from actors.rollouts.chat import TOOL, Chat
from actors.rollouts.episode import PLAYED, Episode, Misuse, Response, Task
from actors.rollouts.lines import here
from actors.rollouts.offers import AUTO, Offer
from actors.rollouts.seeds import turn_seed
from actors.rollouts.serving.address import Address
from actors.rollouts.serving.agent import AgentFailed
from actors.rollouts.serving.conversations import Conversations
from actors.rollouts.stream import OPENING, Stream, Turn, Whose
from actors.rollouts.using import Toolbox, called_here, taken_apart, told
from actors.tools.formats import Schema
from actors.tools.tool import Limits, Result, failure
from actors.tools.worker import Work
from actors.types import Finish, RowPrompt
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
            trained: whether its turns are trained on.
        """
        self.name, self.trained, self.busy = whose.seat, trained, False
        self._episode, self._whose, self._system = episode, whose, system
        self._streams: list[Stream] = []
        self._last_stream: Stream | None = None  # that of the last turn
        self._turns: list[Turn] = []
        self._opening = ""  # the text that the conversation began with
        self._messages: tuple[Message, ...] = ()  # what was said behind it, the last turn not among it
        self._last = Message("assistant", "")  # the last turn
        self._toolbox = Toolbox()
        self._offer: Offer | None = None  # how it was told of tools
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
        if self._turns:
            raise self._misuse("offers tools when the conversation has begun: offer them before the first turn")
        try:
            limits = Limits(seconds=seconds, memory_mib=memory_mib, max_characters=max_characters)
            self._toolbox = self._toolbox.plus(tools, form, limits, self._episode.means.file)
        except ValueError as problem:
            raise self._misuse(f"offers tools, and {problem}") from None

    async def run(self, calls: Sequence[Call]) -> list[str]:
        """What the tools give for these calls, in order; they run at the same time. A call that fails gives a text that
        says so."""
        self._refuse_misuse()
        if unknown := [call.name for call in calls if not call.problem and call.name not in self._toolbox.tools]:
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
        self, said: str | Task | Sequence[str], role: str = "user", max_tokens: int | None = None
    ) -> Turn:
        """Adds what somebody says, which nobody trains on, then samples a turn of the policy.

        A text is only text: what tools, users and data say opens no turn and ends none; that is done by the model's
        chat template. Where there is none, nothing stands around a text. When the conversation has no room left, or
        the episode no turn (`rollout.max_turns`), nothing is added, the turn is empty and its finish is LENGTH.

        Args:
            said: a text; the task, which opens a conversation as the data say it; or the texts of several tools.
            role: who says it: "user" or "tool".
            max_tokens: most tokens of the turn, beside `rollout.max_new_tokens` for all turns together.
        """
        if self._episode.home is None:
            return await self._say(said, role, max_tokens)
        episode = self._episode
        self._refuse_misuse()
        if self._address is not None:
            raise self._misuse(
                f"asks the seat {self.name!r}, which an agent asks by its address: take another seat for what you say "
                "yourself"
            )
        if self.busy:
            raise self._misuse(f"asks the seat {self.name!r} again while its turn is being sampled")
        if episode.turns >= 2 * episode.means.max_turns:
            raise self._misuse(
                f"goes on asking for turns behind the last of rollout.max_turns = {episode.means.max_turns}: end the "
                "episode where a turn's finish is 'length'"
            )
        self.busy = True
        try:
            return await self._at_home(self._episode.home, self._say(said, role, max_tokens))
        finally:
            self.busy = False

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
        if not self._turns or not self._turns[-1].tokens:
            raise self._misuse("rewards a turn in which nothing was said")
        assert self._last_stream is not None  # in which the turn is
        self._last_stream.reward(weight * float(value))

    @property
    def response(self) -> str:
        """The text of all turns, one behind the other, stream by stream; span rewards count its characters."""
        return "".join(stream.text for stream in self._streams)

    @property
    def new_tokens(self) -> int:
        """Tokens that were sampled so far."""
        return sum(turn.tokens for turn in self._turns)

    @property
    def spoke(self) -> bool:
        """Whether it has sampled a turn, be it an empty one."""
        return bool(self._streams)

    def said(self, verdict: Verdict) -> Response:
        """All of it, with its verdict."""
        finish = self._turns[-1].finish
        finishes = [Finish.STOP] * (len(self._streams) - 1) + [finish]
        streams = list(zip(self._streams, finishes, strict=True))
        return Response(
            tuple(stream.trajectory(self._whose, finish) for stream, finish in streams),
            tuple(stream.rewards for stream in self._streams) if any(s.rewarded for s in self._streams) else (),
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
        stream.add(said, completion, turn.text, speaker)
        if stream not in self._streams:
            stream.continues = bool(self._streams)
            self._streams.append(stream)
        self._last_stream = stream
        self._turns.append(turn)
        self._episode.sampled_at = time.time()

    def say_nothing(self) -> Turn:
        """A turn for which there is no room."""
        self._turns.append(turn := Turn(text="", tokens=0, finish=Finish.LENGTH))
        self._episode.sampled_at = time.time()
        return turn

    async def _result(self, call: Call) -> Result:
        """What a call of a tool gives, where it is to be run."""
        means = self._episode.means
        if call.problem:
            return failure(call.problem)
        tool = self._toolbox.tools[call.name]
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

    async def _say(self, said: str | Task | Sequence[str], role: str, max_tokens: int | None) -> Turn:
        episode, means = self._episode, self._episode.means
        episode.turns += 1
        if episode.turns > means.max_turns:
            return self.say_nothing()
        task = said if isinstance(said, Task) else None
        messages = [] if isinstance(said, Task) else self._messages_of(said, role)
        if self._toolbox.waits and means.runner is not None:
            self._toolbox = await self._toolbox.ready(means.runner)
        stream, ids = self._next(messages, task)
        most = means.engine.max_model_len if means.max_tokens is None else means.max_tokens
        left = min(means.sampling.max_tokens - self.new_tokens, most - stream.size - ids.size)
        left = left if max_tokens is None else min(left, max_tokens)
        if left <= 0:
            return self.say_nothing()
        if means.chat is not None:
            self._keep(messages, role, ids.size, 1 if isinstance(said, str | Task) else len(said))
        return await self._sampled(stream, ids, left, role)

    def _messages_of(self, said: str | Sequence[str], role: str) -> list[Message]:
        """What is said, as messages.

        Raises:
            Misuse: it is no text, or the role says no more than one.
        """
        texts = [said] if isinstance(said, str) else list(said) if isinstance(said, list | tuple) else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise Misuse(f"says {said!r:.80}: give a text, or the texts of several tools")
        if len(texts) > 1 and role != TOOL:
            raise Misuse(f'says {len(texts)} texts at once as {role!r}: only several tools can, with role="tool"')
        chat = self._episode.means.chat
        if role != TOOL or not self._turns or chat is None:
            return [Message(role, texts[0])]
        return told(texts, self._turns[-1].calls, chat, offered=bool(self._toolbox.tools))

    def _next(self, said: Sequence[Message], task: Task | None) -> tuple[Stream, np.ndarray]:
        """The stream that goes on, and the token ids that come into it before the next turn."""
        chat = self._episode.means.chat
        if not self._streams:
            if task is not None and task.prompt is not None and self._system is None and not self._toolbox.tools:
                self._opening = task.prompt.text
                return Stream(), task.prompt.tokens
            assert chat is not None  # the environment is a person's own
            self._opening = self._begun(chat, said, task)
            return Stream(), np.array(chat.opened(self._opening), np.int32)
        assert chat is not None
        if task is not None:
            raise Misuse("a task opens a conversation, and this one has begun: say its question")
        if not chat.keeps and (again := chat.again(self._opening, self._messages, self._last, said)):
            return Stream(), np.array(chat.opened(again), np.int32)
        stream = self._streams[-1]
        return stream, np.array(chat.following(said, stream.last_turn), np.int32)

    def _begun(self, chat: Chat, said: Sequence[Message], task: Task | None) -> str:
        """What the conversation begins with."""
        means, tools, before = self._episode.means, tuple[Schema, ...](), ""
        if self._toolbox.tools and means.offers is not None:
            schemas = {name: tool.schema for name, tool in self._toolbox.tools.items()}
            self._offer = means.offers.of(schemas, self._toolbox.form)
            tools, before = self._offer.tools, self._offer.before
        if task is not None and isinstance(task.prompt, RowPrompt) and self._system is None:
            return chat.opening_of(task.prompt.asked, task.prompt.system, tools, before)
        message = Message("user", task.question) if task is not None else said[0]
        return chat.opening(chat.system if self._system is None else self._system, message, tools, before)

    def _keep(self, said: Sequence[Message], role: str, tokens: int, texts: int) -> None:
        """What is said, in so many texts, will be answered: it is part of the conversation."""
        if not self._streams:
            return self._episode.count(OPENING, tokens)
        self._episode.count(role, tokens, texts if role == TOOL else 0)
        self._messages += (self._last, *said)

    async def _sampled(self, stream: Stream, said: np.ndarray, most: int, speaker: str) -> Turn:
        means, whole = self._episode.means, self._episode.means.sampling
        seed = turn_seed(self._episode.seed, self._episode.turns - 1)
        sampling = whole if most == whole.max_tokens else replace(whole, max_tokens=most)
        (completion,) = await means.engine.generate(stream.behind(said), sampling, seed)
        turn = self._turn_of(completion)
        self.add(stream, said, completion, turn, speaker if means.chat is not None else "")
        return turn

    def _turn_of(self, completion: Completion) -> Turn:
        """What the environment is told of what the policy sampled."""
        tokenizer, finish = self._episode.means.engine.tokenizer, completion.finish
        ids = completion.tokens.tolist()
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        turn = Turn(text=text, tokens=len(ids), finish=finish, content=text)
        self._last = Message("assistant", text)
        if self._offer is None:
            return turn
        number = sum(len(turn.calls) for turn in self._turns)
        found = taken_apart(ids, tokenizer, self._offer.calls, number, cut=finish is Finish.LENGTH)
        if found.calls and found.apart:
            self._last = Message("assistant", found.content, calls=found.calls)
        return replace(turn, content=found.content, calls=found.calls)

    async def _graded(self, text: str | None) -> Verdict:
        task, whole = self._episode.task, self.response
        verdict = await self._episode.grade(
            task.reward,
            Case(
                response=whole if text is None else text,
                reference=task.reference,
                prompt=task.question if task.prompt is None else task.prompt.text,
                question=task.question,
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
            if self._turns or self.busy:
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
