"""The metrics: every name with its unit, its group, what it is a mean or a maximum of, and what it is good for.

metrics.jsonl, TensorBoard, Ray's metrics, loggers, `winnow metrics` and docs/metrics.md all read this table.
"""

from enum import StrEnum
from typing import NamedTuple


class MetricGroup(StrEnum):
    """What metrics are about; TensorBoard has a folder for each."""

    PROGRESS = "progress"
    REWARD = "reward"
    GROUPS = "groups"
    RESPONSES = "responses"
    EPISODES = "episodes"
    TOKENS = "tokens"
    POLICY = "policy"
    MISMATCH = "mismatch"
    OPTIMIZER = "optimizer"
    TIME = "time"
    MACHINE = "machine"

    @property
    def about(self) -> str:
        """What the metrics of the group are good for."""
        return _GROUPS[self]


_GROUPS = {
    MetricGroup.PROGRESS: "How far the run is.",
    MetricGroup.REWARD: "Whether the policy gets better.",
    MetricGroup.GROUPS: "What became of every prompt that was dispatched: the ledger.",
    MetricGroup.RESPONSES: "How responses and their verdicts ended.",
    MetricGroup.EPISODES: "What went on where the policy meets an environment; null without one.",
    MetricGroup.TOKENS: "How long responses are, and how many tokens were sampled and trained on.",
    MetricGroup.POLICY: "How the policy moves within a step and away from where it started.",
    MetricGroup.MISMATCH: "Whether generators and learner compute the same, and how old samples are.",
    MetricGroup.OPTIMIZER: "What the optimizer did.",
    MetricGroup.TIME: "Where the time went, and how busy the parts were.",
    MetricGroup.MACHINE: "How many processes are alive, and how full the disk is.",
}


class Metric(NamedTuple):
    """What a metric is."""

    unit: str
    about: str  # a sentence: which sample, which estimator, over what it is a mean or a maximum
    group: MetricGroup
    use: str = ""  # what it is good for, where its name does not say so

    @property
    def line(self) -> str:
        """All of it."""
        return f"{self.about} {self.use}".strip()


_P, _R, _G, _S = MetricGroup.PROGRESS, MetricGroup.REWARD, MetricGroup.GROUPS, MetricGroup.RESPONSES
_E, _T, _Y, _M = MetricGroup.EPISODES, MetricGroup.TOKENS, MetricGroup.POLICY, MetricGroup.MISMATCH
_O, _C, _D = MetricGroup.OPTIMIZER, MetricGroup.TIME, MetricGroup.MACHINE

METRICS: dict[str, Metric] = {
    "step": Metric("steps", "Training steps so far.", _P),
    "version": Metric("version", "Version of the weights that the generators hold after the step.", _P),
    "updates": Metric("updates", "Optimizer updates so far, over all steps.", _P),
    "wall_seconds": Metric("s", "Seconds since training began, the first evaluation among them.", _P),
    "step_ended_at": Metric("s since 1970", "When the step ended; before the first one, when training began.", _P),
    "reward_mean": Metric(
        "score",
        "Mean score over all responses that were judged since the last step, those of rejected groups among them; "
        "responses without a verdict have no score.",
        _R,
        "The reward before the filter: what the policy earns.",
    ),
    "reward_trained": Metric(
        "score",
        "Mean score over the responses with a score in the groups trained on in this step.",
        _R,
        "The reward after the filter. With a drop rule it stays near the middle while reward_mean rises.",
    ),
    "accuracy": Metric(
        "share",
        "Share of correct responses among all that were judged since the last step, those of rejected groups among "
        "them.",
        _R,
        'With rollout.choose = "likely-mixed" or rollout.rounds it is of the prompts that were chosen: only '
        "eval_accuracy is of the data.",
    ),
    "eval_accuracy": Metric(
        "share",
        "Share of correct responses among all judged responses to the held-out prompts (eval.samples to each), sampled "
        "from the weights after the step; null where the step was not evaluated, and with eval.generators: "
        "evals.jsonl has it when they are done, and TensorBoard, Ray and the loggers get it then.",
        _R,
        "The measure of progress. The report has its interval.",
    ),
    "groups_dispatched": Metric("groups", "Groups dispatched so far.", _G),
    "groups_kept": Metric("groups", "Groups accepted by the filter so far.", _G),
    "groups_trained": Metric("groups", "Groups trained on so far.", _G),
    "groups_all_correct": Metric(
        "groups",
        "Groups rejected so far because every response was correct.",
        _G,
        "Where most are, the prompts are too easy by now.",
    ),
    "groups_all_wrong": Metric(
        "groups",
        "Groups rejected so far because no response was correct.",
        _G,
        "Where most are, the prompts are too hard, or the reward or the template is at fault: read some responses.",
    ),
    "groups_failed": Metric(
        "groups", "Groups so far in none of whose sets of siblings two responses could be judged.", _G
    ),
    "groups_dropped": Metric("groups", "Groups dropped so far for other reasons, such as a deadline.", _G),
    "groups_unpackable": Metric(
        "groups", "Of these, groups that hold something that cannot be stored; the log says what.", _G
    ),
    "groups_interrupted": Metric(
        "groups",
        "Of these, groups that were being sampled or graded when the run was saved that went on from there; their "
        "prompts were dispatched again.",
        _G,
    ),
    "groups_in_flight": Metric("groups", "Groups being sampled or graded now.", _G),
    "groups_buffered": Metric("groups", "Accepted groups that wait for training now.", _G),
    "patience_spent": Metric(
        "share",
        "Groups in a row that were rejected or lost until now, over filter.patience.",
        _G,
        "It falls to 0 with the next group that is kept. At 1 the run ends.",
    ),
    "responses_unparsable": Metric(
        "responses", "Responses without an answer since the last step; scored like wrong ones.", _S
    ),
    "responses_timeout": Metric(
        "responses", "Responses without a verdict since the last step: the verifier took too long.", _S
    ),
    "responses_error": Metric(
        "responses", "Responses without a verdict since the last step: the verifier or the environment failed.", _S
    ),
    "timeout_share": Metric(
        "share",
        "Share of all responses since the last step whose grading took too long, scored or not.",
        _S,
        "Above 0.05 the run says what to do.",
    ),
    "judge_unread": Metric(
        "share",
        "Share of all responses since the last step about which a judge said nothing that can be read.",
        _S,
        "Above 0.05 the run says what to do.",
    ),
    "verifier_disagreement": Metric(
        "share",
        "Share of the responses since the last step that a second, cheap checker judged otherwise, of those that it "
        "looked at; null where it looked at none.",
        _S,
        "One of the two is wrong about these responses: read some.",
    ),
    "responses_truncated": Metric(
        "responses",
        "Responses cut at rollout.max_new_tokens since the last step.",
        _S,
        "Where they are many, raise it: a response that is cut seldom reaches its answer.",
    ),
    "turns_mean": Metric(
        "turns",
        "Mean over the episodes since the last step of the turns that they asked for; null without "
        "rollout.environment, as the four that follow.",
        _E,
    ),
    "episode_seconds": Metric("s", "Mean time of an episode since the last step, from its beginning to its score.", _E),
    "tool_calls": Metric("calls", "Texts of tools that environments gave to the policy since the last step.", _E),
    "tool_failures": Metric(
        "calls", "Calls of tools without a result since the last step: not readable, wrong, or the tool failed.", _E
    ),
    "tokens_user": Metric(
        "tokens",
        "Tokens of what users and other seats said to the policy since the last step, behind the beginnings of "
        "conversations; not trained on.",
        _E,
    ),
    "tokens_tool": Metric("tokens", "Tokens of what tools said to the policy since the last step; not trained on.", _E),
    "response_tokens_mean": Metric(
        "tokens",
        "Mean length over all responses generated since the last step, in sampled tokens.",
        _T,
        "Beside response_tokens_kept it shows whether the filter prefers short responses, or long ones.",
    ),
    "response_tokens_kept": Metric(
        "tokens", "Mean length over the responses of the groups trained on in this step, in sampled tokens.", _T
    ),
    "tokens_generated": Metric(
        "tokens",
        "Tokens sampled for training since the last step, greedy responses of the baseline among them; stored groups "
        "count as if sampled.",
        _T,
        "Its sum is what run.tokens limits.",
    ),
    "tokens_trained": Metric(
        "tokens",
        "Tokens trained on in this step, counted once for each update that they take part in; those of responses "
        "without an advantage only where the algorithm learns something else from them, such as a KL.",
        _T,
    ),
    "tokens_padding": Metric("tokens", "Padding tokens in all of the learner's forward passes of this step.", _T),
    "tokens_shared": Metric(
        "tokens",
        "Tokens that the learner's updates of this step did not compute again, as sequences have them in common with "
        "others of their row.",
        _T,
        "0 where the model keeps sequences apart, or where responses are long beside what they have in common.",
    ),
    "sequences_per_row": Metric(
        "sequences",
        "Mean number of sequences in a row of the learner's micro-batches of this step; 1 where the model cannot be "
        "packed.",
        _T,
    ),
    "entropy": Metric(
        "nats",
        "Entropy of the policy's next-token distribution: mean over the tokens trained on, computed in each update "
        "before its weights change, then mean over the step's updates.",
        _Y,
        "Near 0 all responses to a prompt are the same, and groups teach nothing.",
    ),
    "kl_start": Metric(
        "nats per token",
        "Estimate (k3, at most 10 for a token) of KL(policy || starting policy): mean over the trained tokens in one "
        "row in 8 of each rank's first micro-batch of an update, then mean over the step's updates; null where "
        "learner.drift is off.",
        _Y,
        "How far training went. A sample of tokens: its last digits jump from step to step.",
    ),
    "loss_told": Metric(
        "nats per token",
        "What tools, users and other seats said between the turns of the responses trained on, words of the chat "
        "template among it, as -log p: mean over these tokens, then mean over the step's updates; null where the "
        "algorithm does not learn it.",
        _Y,
        "Falls as the policy learns to foresee its environment.",
    ),
    "kl_teacher": Metric(
        "nats per token",
        "Estimate (k1) of KL(policy || teacher): log p - log p_teacher, mean over the tokens trained on, computed "
        "before the step's updates, then mean over them; null where the algorithm has no teacher.",
        _Y,
        "What distillation minimises: at 0 the policy says what the teacher would. Below 0 by chance alone.",
    ),
    "clip_fraction": Metric(
        "share",
        "Share of the trained tokens whose ratio left the clip range, mean over the step's updates; 0 where an "
        "update's ratio is 1 by construction.",
        _Y,
        "What is clipped teaches nothing more. Above about 0.2 steps are large: lower learner.lr or take fewer "
        "updates.",
    ),
    "ratio_p99": Metric(
        "ratio",
        "99th percentile over the trained tokens of 1 + |ratio - 1|, ratio of the policy to the one that the "
        "algorithm's ratio is against (at the start of the step, or the sampler's); the largest over the step's "
        "updates and the learner's ranks.",
        _Y,
        "1 means that the policy did not move within the step. 1.3 means that one token in 100 is at least 30 % more "
        "likely or less.",
    ),
    "staleness_mean": Metric(
        "versions",
        "Mean over the groups trained on in this step of how many versions their oldest token is behind the learner.",
        _M,
    ),
    "staleness_max": Metric(
        "versions", "The largest such lag of a group trained on in this step; at most rollout.max_staleness.", _M
    ),
    "mismatch_kl": Metric(
        "nats per token",
        "Estimate (k3, never below 0) of KL(sampler || learner at the start of the step): mean over the tokens trained "
        "on, then mean over the step's updates; 0 where samples came without log-probabilities.",
        _M,
        "In float32 it is next to nothing (below 1e-9), in bfloat16 up to about 0.01; staleness adds to it.",
    ),
    "mismatch_capped": Metric(
        "share",
        "Share of the trained tokens whose probability under the learner at the start of the step, over that under the "
        "sampler, lies above objective.mismatch_cap; mean over the step's updates.",
        _M,
        "Small as long as samples and learner are close. Above 0.05 much of the batch teaches less than it cost: the "
        "samples are stale, or the steps large.",
    ),
    "probe_gap": Metric(
        "nats",
        "Largest difference between a generator's and the learner's log-probability of a token of the probe text, "
        "after the step's sync, over tokens and generators.",
        _M,
        "Whether generators and learner compute the same. In float32 it stays below 1e-3, or the run ends. In lower "
        "precision it jumps by rounding alone: look at the mean.",
    ),
    "probe_gap_mean": Metric(
        "nats", "Mean of these differences over the tokens of the probe text, of the generator where it is largest.", _M
    ),
    "probe_doubts": Metric(
        "syncs",
        "Syncs so far after which the probe was out of bounds.",
        _M,
        "Of weights in bfloat16 two in a row end the run; the bounds are 0.05 nats in the mean, or 1 on any token. In "
        "float32 the first one does, at 1e-3 on any token.",
    ),
    "loss": Metric(
        "loss",
        "The objective that was minimised, mean over the step's updates.",
        _O,
        "No measure of progress: with a baseline it is near 0 by construction.",
    ),
    "grad_norm": Metric("norm", "Norm of the gradient before clipping, mean over the step's updates.", _O),
    "lr": Metric("rate", "Learning rate of the step's last update.", _O),
    "tokens_per_second": Metric(
        "tokens/s", "Tokens of the responses generated since the last step, over the seconds of the step.", _C
    ),
    "tokens_trained_per_second": Metric("tokens/s", "Tokens trained on over the seconds of the step.", _C),
    "busy_generators": Metric(
        "share", "Share of the step in which a generator had a group in hand, mean over generators.", _C
    ),
    "busy_verifiers": Metric("share", "Share of the step that a verifier spent on responses, mean over verifiers.", _C),
    "busy_learner": Metric("share", "Share of the step that the learner spent on updates.", _C),
    "verifier_queue": Metric(
        "responses",
        "Most responses of a generator that waited for a free verifier at one time since the last step: a maximum.",
        _C,
    ),
    "seconds_generate": Metric(
        "s",
        "Seconds from a group's dispatch to the end of its longest response: mean over the groups graded since the "
        "last step.",
        _C,
        "Of groups, which overlap: it is no part of the step's time.",
    ),
    "seconds_verify": Metric(
        "s",
        "Longest wait of a response of a group for its verdict: mean over the groups graded since the last step.",
        _C,
        "Of groups, which overlap: it is no part of the step's time.",
    ),
    "seconds_wait": Metric("s", "Seconds of the step that the learner waited for a batch.", _C),
    "seconds_wait_verify": Metric(
        "s", "Of these, the seconds in which all responses were there and only verdicts were missing.", _C
    ),
    "seconds_train": Metric("s", "Seconds of the learner's updates.", _C),
    "seconds_sync": Metric("s", "Seconds in which new weights were brought to the generators and proved.", _C),
    "seconds_other": Metric("s", "Seconds of the step in none of these: checkpoints, evaluations and reports.", _C),
    "sync_gib_per_second": Metric("GiB/s", "Weights sent in the sync over the seconds of sending.", _C),
    "generators": Metric("generators", "Generators that are alive after the step.", _D),
    "verifiers": Metric("processes", "Verifier processes that are alive after the step.", _D),
    "restarts": Metric("learners", "Learners that were lost and replaced by a new one, since the driver started.", _D),
    "disk_used": Metric(
        "share", "Share of the disk of the run folder that is in use; null where it cannot be seen.", _D
    ),
}
