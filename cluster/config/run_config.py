"""All sections of a run file together: one checked, frozen `RunConfig`, and what spans sections."""

from dataclasses import replace
from typing import Self

from pydantic import model_validator

from actors.settings import (
    MOST_SHARED,
    TRUNCATION,
    DataSettings,
    EvalSettings,
    FilterSettings,
    GeneratorSettings,
    RolloutSettings,
    SyncSettings,
    WorldSettings,
)
from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings, RunSettings
from cluster.config.travel import backend_problem
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Need, SideModelKind
from learner.settings import LearnerSettings, ModelSettings, ObjectiveSettings, WarmupSettings, chosen_algorithm
from learner.teacher import is_endpoint
from rewards import JudgeSettings, KindSettings, RewardSettings, ScoringSettings, Section


class RunConfig(Section):
    """All settings of a run, and what spans sections."""

    run: RunSettings = RunSettings()
    world: WorldSettings = WorldSettings()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    reward: RewardSettings = RewardSettings()
    rollout: RolloutSettings = RolloutSettings()
    filter: FilterSettings = FilterSettings()
    generator: GeneratorSettings = GeneratorSettings()
    sync: SyncSettings = SyncSettings()
    warmup: WarmupSettings = WarmupSettings()
    learner: LearnerSettings = LearnerSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    eval: EvalSettings = EvalSettings()
    cluster: ClusterSettings = ClusterSettings()

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm with the pieces that the run replaces, in units of the score."""
        algorithm, rule = chosen_algorithm(self.learner, self.objective), self.filter.rule
        algorithm = replace(algorithm, drop=rule) if rule else algorithm
        return algorithm.in_units(self.reward.wrong, self.reward.correct)

    def on_device(self, on_gpu: bool) -> Self:
        """The run with what depends on the device settled: dtype, attention and checkpointing of the model,
        `learner.drift`, and what is unset of the generators.

        Raises:
            ConfigError: something is set that this device does not have.
        """
        try:
            model = self.model.on_device(on_gpu)
        except ValueError as problem:
            raise ConfigError(str(problem)) from problem
        generator, learner = self.generator.on_device(on_gpu, self.cluster.colocate), self.learner.on_device(on_gpu)
        return self.model_copy(update={"model": model, "generator": generator, "learner": learner})

    def without_learner(self) -> Self:
        """The run as `winnow eval` has it: nothing is trained, and engines have their GPUs alone."""
        cluster = self.cluster.model_copy(update={"learner_ranks": 0, "colocate": False})
        return self.model_copy(update={"cluster": cluster})

    def without_sampling(self) -> Self:
        """The run as `winnow reward-model` has it: nothing is sampled or graded, there are learner ranks alone."""
        cluster = self.cluster.model_copy(update={"generators": 0, "verifiers": 0})
        return self.model_copy(update={"cluster": cluster})

    @property
    def samples(self) -> bool:
        """Whether responses are sampled at all: for training, for evaluation or for both."""
        return not self.data.stored or self.data.stored_share < 1.0 or self.eval.every > 0 or not self.trains

    @property
    def evaluators(self) -> int:
        """Generators that evaluate, beside those that sample for training."""
        return self.eval.generators if self.trains and self.eval.every else 0

    @property
    def trains(self) -> bool:
        """Whether there is a learner; see `without_learner`."""
        return self.cluster.learner_ranks > 0

    @property
    def most_siblings(self) -> int | None:
        """Responses of a set of siblings that are trained on at most; None: all that there are."""
        size, rounds = self.rollout.group_size, self.rollout.rounds
        return self.filter.most_siblings or (size if rounds.size * rounds.most > size else None)

    @property
    def scoring_models(self) -> dict[str, ScoringSettings]:
        """The rewards from a model that the run file has a section for, by name; `winnow eval` picks responses by
        them."""
        sections = self.reward.sections.items()
        return {name: settings for name, settings in sections if isinstance(settings, ScoringSettings)}

    @property
    def hosted_judges(self) -> dict[str, str]:
        """The language models that the run hosts to ask them about responses: name of the reward -> model folder.

        These are the judges without a url among the parts of reward.name, and where rows name their rewards
        (data.reward_column) among all rewards of the run file.
        """
        return {
            name: settings.path
            for name, settings in self._used_rewards().items()
            if isinstance(settings, JudgeSettings) and not settings.url
        }

    def hosted_scorers(self, on_gpu: bool) -> dict[str, ScoringSettings]:
        """The rewards whose model has a GPU of its own, on which the run hosts it; by name, chosen as hosted judges.

        Args:
            on_gpu: whether the run is on GPUs.
        """
        return {
            name: settings
            for name, settings in self._used_rewards().items()
            if isinstance(settings, ScoringSettings)
            and (settings.device == "gpu" or (settings.device == "auto" and on_gpu))
        }

    def _used_rewards(self) -> dict[str, KindSettings]:
        used = self.reward.leaves(self.reward.name) if self.samples else {}
        if not self.trains:
            used = {**used, **self.scoring_models}
        return {**used, **self.reward.sections} if used and self.data.reward_column else used

    @property
    def unused_rewards(self) -> tuple[str, ...]:
        """The sections of rewards that grade nothing; those of models serve `winnow eval` in any case."""
        used = {self.reward.name, *self._used_rewards(), *self.scoring_models}
        return tuple(name for name in self.reward.sections if name not in used) if self.samples else ()

    @model_validator(mode="after")
    def _trains_on_span_rewards(self) -> Self:
        if not self.rollout.environment:
            _check_span_rewards(self.reward)
        if self.reward.span_weight and (self.algorithm.counts != "all" or self.algorithm.credit.pairs):
            raise ValueError(
                f"learner.algorithm = {self.learner.algorithm!r} trains on chosen responses as a whole and has no use "
                f"for rewards of steps and spans: set reward.span_weight = 0, got {self.reward.span_weight:g}"
            )
        return self

    @model_validator(mode="after")
    def _knows_all_siblings(self) -> Self:
        spans, size = self.reward.span_weight > 0, self.rollout.group_size
        if self.filter.most_siblings and not 2 <= self.filter.most_siblings <= size:
            raise ValueError(
                f"filter.most_siblings must be 0, or at least 2 and at most rollout.group_size = {size}, got "
                f"{self.filter.most_siblings}"
            )
        if self.most_siblings is not None and (spans or self.algorithm.credits_on_rank):
            who = "reward.span_weight above 0" if spans else f"learner.algorithm = {self.learner.algorithm!r}"
            raise ValueError(
                f"{who} makes advantages on the learner's ranks, which know no response but those that are trained on, "
                f"at most {self.most_siblings} of a set of siblings: set filter.most_siblings = 0, and rollout.rounds "
                f"so that size x most is at most rollout.group_size = {size}; or take an algorithm that needs scores "
                "alone, such as grpo"
            )
        return self

    @model_validator(mode="after")
    def _meets_the_algorithms_needs(self) -> Self:
        name, algorithm = self.learner.algorithm, self.algorithm
        if Need.NUCLEUS in algorithm.needs and (self.rollout.top_p == 1.0 or self.rollout.max_staleness):
            raise ValueError(
                f"learner.algorithm = {name!r} restricts the ratio to the nucleus that was sampled from: set "
                f"rollout.top_p below 1 (0.9, say) and rollout.max_staleness = 0, got {self.rollout.top_p} and "
                f"{self.rollout.max_staleness}"
            )
        if Need.NUCLEUS not in algorithm.needs and self.rollout.top_p != 1.0:
            raise ValueError(f"rollout.top_p must stay 1 for training, got {self.rollout.top_p}: {TRUNCATION}")
        if self.sync.in_flight == "keep" and not algorithm.reads_sampler:
            raise ValueError(
                f'sync.in_flight = "keep" samples with keys and values of old weights, and learner.algorithm = {name!r}'
                " does not weigh tokens by the probability that they were sampled with: its gradient would be biased "
                'unseen. Set sync.in_flight = "continue", or objective.mismatch'
            )
        if Need.TURNS in algorithm.needs and not (self.rollout.environment or self.data.stored):
            raise ValueError(
                f"learner.algorithm = {name!r} learns what is said between the turns of a response, and the policy is "
                "asked single questions: set rollout.environment, or take grpo"
            )
        if algorithm.imitation and not (self.world.name or self.warmup.path):
            raise ValueError(
                f"learner.algorithm = {name!r} mixes in the likelihood of worked answers and there are none: set "
                "warmup.path to a file of prompts and responses, or objective.imitation = 0"
            )
        if SideModelKind.TUNED in algorithm.side_models and not self.learner.tuned_path:
            raise ValueError(
                f"learner.algorithm = {name!r} takes its token rewards from a tuned policy: set learner.tuned_path to "
                'a model folder, such as a checkpoint of a run with "iterative-dpo"'
            )
        if SideModelKind.TEACHER in algorithm.side_models and not self.learner.teacher_path:
            raise ValueError(
                f"learner.algorithm = {name!r} learns from a teacher: set learner.teacher_path to the folder of a "
                "model with the policy's vocabulary, such as a larger one of its family, or to the address of an "
                "endpoint that serves it"
            )
        if is_endpoint(self.learner.teacher_path) and self.rollout.temperature != 1.0:
            raise ValueError(
                f"rollout.temperature must be 1 where learner.teacher_path is an endpoint, got "
                f"{self.rollout.temperature:g}: it tells its log-probabilities at temperature 1 alone"
            )
        if Need.CONTROL in algorithm.needs and len(self.model.control_tokens) < 2 and not self.world.name:
            raise ValueError(
                f"learner.algorithm = {name!r} needs a token for each reward quantile: set model.control_tokens to two "
                f"or more tokens of the tokenizer, the best first, got {list(self.model.control_tokens)}"
            )
        lacking = algorithm.needs & {Need.GREEDY, Need.NUCLEUS}
        if self.data.stored and lacking:
            raise ValueError(
                f"learner.algorithm = {name!r} cannot train from data.stored: a dataset has no {', '.join(lacking)} "
                "samples. Unset data.stored"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_environment(self) -> Self:
        rollout, name = self.rollout, self.learner.algorithm
        if not rollout.environment:
            return self
        if rollout.episode_seconds >= rollout.timeout_seconds:
            raise ValueError(
                f"rollout.episode_seconds must be below rollout.timeout_seconds = {rollout.timeout_seconds:g}, got "
                f"{rollout.episode_seconds:g}: the group would be given up before its longest episode is"
            )
        if unfit := sorted(self.algorithm.needs & {Need.GREEDY, Need.CONTROL}):
            raise ValueError(
                f"learner.algorithm = {name!r} needs {', '.join(unfit)} of a single question and cannot train on what "
                f"rollout.environment plays: take another algorithm, such as grpo"
            )
        together = [reward for reward in self._used_rewards() if self.reward.wants_group(reward)]
        if together:
            raise ValueError(
                f"reward.{together[0]} compares the responses of a group, and an environment has each graded alone: "
                "define `reward` in its file, or have `play` return the score"
            )
        return self

    @model_validator(mode="after")
    def _can_share_gpus(self) -> Self:
        cluster, share = self.cluster, self.generator.memory_share
        on_gpu = False if cluster.device == "cpu" else None
        if problem := backend_problem(self.sync.backend, colocate=cluster.colocate, on_gpu=on_gpu):
            raise ValueError(problem)
        counts = {cluster.fewest_generators, cluster.most_generators, cluster.learner_ranks}
        if cluster.colocate and (len(counts) > 1 or cluster.tensor_parallel != 1):
            raise ValueError(
                "cluster.colocate needs one single-GPU generator for each learner rank, got "
                f"{cluster.generators} generators of {cluster.tensor_parallel} GPUs and {cluster.learner_ranks} ranks"
            )
        if cluster.colocate and self.evaluators:
            raise ValueError(
                f"eval.generators = {self.eval.generators} wants GPUs of their own, and with cluster.colocate weights "
                "travel only to generators that share a learner rank's: set eval.generators = 0, or cluster.colocate = "
                "false"
            )
        if cluster.colocate and cluster.nodes.get("learner") != cluster.nodes.get("generator"):
            raise ValueError(
                "cluster.colocate puts each generator beside a learner rank: cluster.nodes must say the same of both, "
                f"got {cluster.nodes.get('learner')} and {cluster.nodes.get('generator')}"
            )
        if cluster.colocate and self.sync.in_flight == "keep":
            raise ValueError(
                'sync.in_flight = "keep" goes on with the keys and values of old weights, which engines forget with '
                'cluster.colocate while the learner trains: set sync.in_flight to "continue" or "finish"'
            )
        if cluster.colocate and share is not None and share > MOST_SHARED:
            raise ValueError(
                f"generator.memory_share must be at most {MOST_SHARED} with cluster.colocate, got {share:g}: weights "
                "and optimizer of the learner stay on the same GPU while the engine samples"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        siblings = max(self.algorithm.siblings, 2 if self.filter.drop == "both" else 1)
        if self.rollout.group_size < siblings:
            raise ValueError(
                f"rollout.group_size must be at least {siblings} for learner.algorithm = {self.learner.algorithm!r}, "
                f"got {self.rollout.group_size}: one sibling has no baseline"
            )
        if self.learner.updates_per_step > self.rollout.groups_per_step:
            raise ValueError(
                f"learner.updates_per_step must be at most rollout.groups_per_step = {self.rollout.groups_per_step}, "
                f"got {self.learner.updates_per_step}: an update needs a group"
            )
        if self.cluster.learner_ranks * self.learner.updates_per_step > self.rollout.groups_per_step:
            raise ValueError(
                f"cluster.learner_ranks x learner.updates_per_step must be at most rollout.groups_per_step = "
                f"{self.rollout.groups_per_step}, got {self.cluster.learner_ranks} x {self.learner.updates_per_step}: "
                "a rank would have nothing to train on"
            )
        if self.world.name and (self.data.path or self.model.path):
            raise ValueError(
                f"world.name = {self.world.name!r} brings its own data and model, but data.path or model.path is set "
                'too: unset them, or set world.name = ""'
            )
        if not self.world.name and not (self.model.path and (self.data.path or not self.samples)):
            missing = "model.path" if not self.model.path else "data.path"
            raise ValueError(f'{missing} must be set (or world.name = "addition" for the built-in world)')
        if self.warmup.updates and not self.world.name and not self.warmup.path:
            raise ValueError("warmup.path must be set when warmup.updates is above 0: a file of worked answers")
        if self.eval.every and not self.world.name and not (self.eval.path or (self.eval.rows and self.data.path)):
            raise ValueError(
                "eval.path must be set when eval.every is above 0: a file of held-out prompts; or eval.rows, such as "
                '"-500:", to hold out rows of data.path, with data.rows = ":-500" for the others'
            )
        return self


class GradingConfig(Section):
    """The settings of `winnow grade` and `winnow check`: those of a run that data and rewards read."""

    data: DataSettings = DataSettings()
    reward: RewardSettings = RewardSettings()
    model: ModelSettings = ModelSettings()
    rollout: RolloutSettings = RolloutSettings()

    @model_validator(mode="after")
    def _has_span_rewards(self) -> Self:
        _check_span_rewards(self.reward)
        return self


def _check_span_rewards(reward: RewardSettings) -> None:
    """Whether there are span rewards to weigh; an environment may give rewards of turns, which are weighed alike."""
    if reward.span_weight and not reward.gives_spans:
        raise ValueError(
            f"reward.span_weight = {reward.span_weight:g} weighs span rewards; reward.name = {reward.name!r} gives none"
        )
