"""The algorithms: a table that can be read from top to bottom. Each entry names one piece of every kind.

    drop       which groups are dropped           scores[J] -> "" or the reason        actors/filtering/rules.py
    credit     what each response is worth        scores[J] -> advantages[J]           learner/methods/credit.py
    loss       what a token costs, minimised      (terms[T], clip) -> [T]              learner/methods/losses.py
    aggregate  how tokens become one number       Aggregation                          learner/methods/choices.py

A run may replace any piece (`objective.*`). The functions use array and tensor methods only, so the table can be read
without torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from actors.filtering.rules import (
    RULES,
    DropRule,
    drop_all_correct,
    drop_all_wrong,
    drop_both,
    drop_none,
    drop_out_of_band,
)
from learner.methods.choices import (
    Aggregation,
    Anchor,
    Baseline,
    Counted,
    KlEstimator,
    Mismatch,
    Need,
    Normalisation,
    Ratio,
    SideModelKind,
)
from learner.methods.credit import (
    CREDITS,
    Credit,
    above,
    best,
    centred,
    leave_one_out,
    normalised,
    ones,
    paired,
    raw,
    relative,
    scaled,
    zeros,
)
from learner.methods.losses import LOSSES, Clip, Loss, clipped, detached, likelihood, preclipped, preferred, tapered


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One entry of the table. Its pieces have the names under which a run may replace them."""

    about: str  # when to use it, and where it comes from
    drop: DropRule = drop_none
    credit: Credit
    loss: Loss = clipped
    aggregate: Aggregation = Aggregation.SEQ_MEAN_TOKEN_MEAN
    ratio: Ratio = Ratio.TOKEN
    clip_low: float = 0.2  # the ratio's lower bound is 1 - clip_low
    clip_high: float = 0.2  # and its upper bound 1 + clip_high
    clip_dual: float = 0.0  # bound on the loss of a negative advantage, times its size; 0 is off
    anchor: Anchor = Anchor.STEP
    mismatch: Mismatch = Mismatch.TRUNCATE  # of no effect with anchor "sampler"
    mismatch_cap: float = 2.0
    kl_estimator: KlEstimator | None = None  # None is k1 in the reward and k3 in the loss
    kl_reward: float = 0.0  # coefficient of the KL taken off each token's reward
    kl_loss: float = 0.0  # coefficient of the KL added to each token's loss
    entropy: float = 0.0  # coefficient of the entropy taken off each token's loss
    imitation: float = 0.0  # weight of the likelihood of worked answers; the rest, 1 - imitation, is the rewards'
    echo: float = 0.0  # weight of the likelihood of what a response was told between its turns
    passes: int = 1  # over the batch of a step
    thresholds: tuple[float, ...] = ()  # of the reward in 0..1, one for each pass
    std_ddof: int = 1  # of the standard deviation, where a credit divides by it
    baseline: Baseline = Baseline.NONE
    advantage_normalisation: Normalisation = Normalisation.NONE
    gamma: float = 1.0  # discount, where tokens have rewards of their own
    lam: float = 1.0  # of generalised advantage estimation
    value_clip: float = 0.2  # how far a value may move from its old one before its loss is cut
    overlong: float = 0.0  # share of rollout.max_new_tokens over which the score falls by 1
    counts: Counted = "all"
    siblings: int = 1  # smallest group size with which the algorithm means anything
    side_models: tuple[SideModelKind, ...] = ()  # the models beside the policy
    needs: frozenset[Need] = frozenset()  # what else must be there beyond the policy

    @property
    def clip(self) -> Clip:
        """The bounds of the ratio."""
        return Clip(low=self.clip_low, high=self.clip_high, dual=self.clip_dual)

    @property
    def kl(self) -> KlEstimator:
        """The KL estimator in use."""
        return self.kl_estimator or (KlEstimator.K1 if self.kl_reward else KlEstimator.K3)

    @property
    def models(self) -> tuple[SideModelKind, ...]:
        """The side models that training asks: the algorithm's own, and the reference policy where a KL is charged."""
        charged = {SideModelKind.REFERENCE} if self.kl_reward or self.kl_loss else set()
        return tuple(kind for kind in SideModelKind if kind in self.side_models or kind in charged)

    @property
    def teacher(self) -> SideModelKind | None:
        """The side model whose log-ratio to the policy is added to each token's advantage; None where none teaches."""
        return next((kind for kind in self.side_models if kind.teaches), None)

    @property
    def reads_reference(self) -> bool:
        """Whether training, not only the metric kl_start, asks for the reference policy's log-probabilities."""
        return SideModelKind.REFERENCE in self.models

    @property
    def reads_sampler(self) -> bool:
        """Whether training reads the sampler's log-probabilities."""
        return self.anchor is Anchor.SAMPLER or self.mismatch is not Mismatch.NONE

    @property
    def learns_without_credit(self) -> bool:
        """Whether a response that is worth nothing has a gradient all the same. Where it has none it need not be
        computed: GRPO's groups of equal scores stand in the denominators, and no more."""
        more = self.kl_loss or self.entropy or self.echo or self.models
        return self.credits_on_rank or bool(more) or not self.loss.scales

    @property
    def credits_on_rank(self) -> bool:
        """Whether advantages take more than the scores of a group, which only the learner's ranks know; else the
        driver computes them."""
        return (
            self.kl_reward > 0
            or self.advantage_normalisation is not Normalisation.NONE
            or self.baseline is Baseline.MOVING
            or any(kind.rewards_tokens for kind in self.side_models)
        )

    def in_units(self, wrong: float, correct: float) -> "Algorithm":
        """The algorithm with thresholds and the score that is worth nothing in units of a run's scores.

        Args:
            wrong: the score of a wrong response.
            correct: the score of a correct response.
        """
        thresholds = tuple(wrong + share * (correct - wrong) for share in self.thresholds)
        credit = self.credit if self.credit.nothing is None else replace(self.credit, nothing=wrong)
        return replace(self, thresholds=thresholds, credit=credit)

    def at_pass(self, number: int) -> "Algorithm":
        """The algorithm as it is in one pass over the batch, counted from 0."""
        if not self.thresholds:
            return self
        return replace(self, credit=replace(above, threshold=self.thresholds[number]))


ALGORITHMS: dict[str, Algorithm] = {
    # ------------------------------------------------ arXiv 2504.11343: from rejection sampling to Reinforce
    "raft": Algorithm(
        about="Rejection sampling: maximise log p of the best responses. L = -1[r = max r, r > 0] log p. Simple and "
        "quick at first; the entropy falls. arXiv 2304.06767",
        drop=drop_all_wrong,
        credit=best,
        loss=likelihood,
        mismatch=Mismatch.NONE,
        counts="credited",
    ),
    "raft++": Algorithm(
        about="RAFT with importance ratio and clip, for several updates on a batch. L = -min(s, 1 + high) on the best "
        "responses. arXiv 2504.11343 equation 6",
        drop=drop_all_wrong,
        credit=best,
        counts="credited",
    ),
    "reinforce": Algorithm(
        about="Every response with its score, no baseline. L = -min(s r, clip(s) r). Groups of wrong answers make it "
        "unstable. arXiv 2504.11343 equation 5",
        credit=raw,
    ),
    "reinforce-drop-all-wrong": Algorithm(
        about="Reinforce without the groups that are all wrong: most of Reinforce-Rej's gain. arXiv 2504.11343 "
        "section 4",
        drop=drop_all_wrong,
        credit=raw,
    ),
    "reinforce-drop-all-correct": Algorithm(
        about="Reinforce without the groups that are all correct: little by itself. arXiv 2504.11343 section 4",
        drop=drop_all_correct,
        credit=raw,
    ),
    "reinforce-rej": Algorithm(
        about="Reinforce on mixed groups only: the default. arXiv 2504.11343 section 4",
        drop=drop_both,
        credit=raw,
        siblings=2,
    ),
    "reinforce-rej-std": Algorithm(
        about="Reinforce-Rej with scores over their group's standard deviation, A = r / std r. arXiv 2504.11343 "
        "section 4",
        drop=drop_both,
        credit=scaled,
        siblings=2,
    ),
    "reinforce-mean": Algorithm(
        about="Reinforce with mean-zero groups, A = r - mean r. arXiv 2504.11343 section 4",
        credit=centred,
        siblings=2,
    ),
    "grpo": Algorithm(
        about="A = (r - mean r) / std r; equal groups give zero but stand in the denominators. The paper adds a KL: "
        "objective.kl_loss = 0.04. arXiv 2402.03300",
        credit=normalised,
        siblings=2,
    ),
    "ppo": Algorithm(
        about="A critic's advantages (GAE) on every token, value clipping. For rewards of single tokens or when groups "
        "are too dear (group_size = 1). arXiv 1707.06347, arXiv 1506.02438",
        credit=raw,
        aggregate=Aggregation.TOKEN_MEAN,
        advantage_normalisation=Normalisation.WHITEN,
        side_models=(SideModelKind.CRITIC,),
    ),
    "iterative-dpo": Algorithm(
        about="L = -log sigmoid(0.1 (m+ - m-)) on pairs of a correct and a wrong response, m = log pi - log ref. Set "
        "learner.reference_every to renew the reference. arXiv 2305.18290, iterated",
        drop=drop_both,
        credit=paired,
        loss=preferred,
        aggregate=Aggregation.SEQ_MEAN_TOKEN_SUM,
        mismatch=Mismatch.NONE,
        counts="credited",
        siblings=2,
        side_models=(SideModelKind.REFERENCE,),
    ),
    # ------------------------------------------------------------------- baselines without a critic
    "rloo": Algorithm(
        about="A = R - mean of the siblings' R, R = r - 0.03 KL of the response; L = -A log p, one update a step. "
        "arXiv 2402.14740",
        credit=leave_one_out,
        loss=likelihood,
        aggregate=Aggregation.SEQ_MEAN_TOKEN_SUM,
        kl_reward=0.03,
        siblings=2,
    ),
    "reinforce-baseline": Algorithm(
        about="A = R - mean of all scores of former steps: a baseline without siblings. arXiv 2402.14740 section 2",
        credit=raw,
        loss=likelihood,
        aggregate=Aggregation.SEQ_MEAN_TOKEN_SUM,
        baseline=Baseline.MOVING,
        kl_reward=0.03,
    ),
    "loop": Algorithm(
        about="RLOO's advantages with a token ratio and clip, for several updates on a batch. arXiv 2503.00897",
        credit=leave_one_out,
        siblings=2,
    ),
    "rae": Algorithm(
        about="Role-conditioned advantages for self-play: A = r - moving mean of the scores of the seat that spoke, "
        "which stands for its role and game. Without siblings. arXiv 2506.24119 (SPIRAL)",
        credit=raw,
        aggregate=Aggregation.CONSTANT,
        baseline=Baseline.ROLE,
    ),
    "self-critical": Algorithm(
        about="A = r - r of a greedy response; L = (1 - imitation) * -A log p + imitation * -log p of worked "
        "answers. arXiv 1612.00563, mixed as in arXiv 1705.04304 equation 16",
        credit=raw,
        loss=likelihood,
        aggregate=Aggregation.SEQ_MEAN_TOKEN_SUM,
        baseline=Baseline.GREEDY,
        imitation=0.0016,
        needs=frozenset({Need.GREEDY}),
    ),
    # -------------------------------------------------------------------- for stored or replayed data too
    "topr": Algorithm(
        about="L = -r w log p; w = 1 for correct, min(pi/mu of the response, 1) for wrong responses. Stays stable on "
        "data of another policy, whose log-probabilities it needs. arXiv 2503.14286",
        credit=raw,
        loss=tapered,
        ratio=Ratio.PRODUCT,
        anchor=Anchor.SAMPLER,
    ),
    "rest": Algorithm(
        about="Grow a dataset, then improve on it in passes with rising thresholds: L = -1[R > threshold] log p, R in "
        "0..1. arXiv 2308.08998",
        drop=drop_all_wrong,
        credit=above,
        loss=likelihood,
        mismatch=Mismatch.NONE,
        passes=3,
        thresholds=(0.0, 0.5, 0.9),
        counts="credited",
    ),
    "quark": Algorithm(
        about="L = -log p(y | token of y's reward quantile, x) + 0.05 KL - 0.06 entropy; sampling asks for the best "
        "quantile. Sorted over the newest 131,072 scores. arXiv 2205.13636",
        credit=ones,
        loss=likelihood,
        aggregate=Aggregation.TOKEN_MEAN,
        mismatch=Mismatch.NONE,
        kl_estimator=KlEstimator.K2,
        kl_loss=0.05,
        entropy=0.06,
        needs=frozenset({Need.CONTROL}),
    ),
    # ------------------------------------------------------------------------ rewards of single tokens
    "prime": Algorithm(
        about="Implicit process rewards r_t = 0.05 (log phi - log ref) of a model phi trained online on outcomes; "
        "leave-one-out of both, whitened. arXiv 2502.01456",
        drop=drop_out_of_band,
        credit=leave_one_out,
        aggregate=Aggregation.TOKEN_MEAN,
        advantage_normalisation=Normalisation.WHITEN,
        siblings=2,
        side_models=(SideModelKind.REFERENCE, SideModelKind.PROCESS),
    ),
    "rto": Algorithm(
        about="PPO with r_t = 0.05 (log tuned - log ref) held within +-0.05, and a KL; tuned is a policy of "
        "iterative-dpo (learner.tuned_path). arXiv 2404.18922",
        credit=raw,
        aggregate=Aggregation.TOKEN_MEAN,
        advantage_normalisation=Normalisation.WHITEN,
        lam=0.95,
        kl_reward=0.01,
        side_models=(SideModelKind.REFERENCE, SideModelKind.CRITIC, SideModelKind.TUNED),
    ),
    "nlpo": Algorithm(
        about="PPO on the nucleus of the policy at the start of the step, in sampling and in the ratio (the KL is of "
        "the nucleus against the whole reference). Set rollout.top_p = 0.9. arXiv 2210.01241",
        credit=raw,
        aggregate=Aggregation.TOKEN_MEAN,
        advantage_normalisation=Normalisation.WHITEN,
        lam=0.95,
        kl_reward=0.1,
        side_models=(SideModelKind.CRITIC,),
        needs=frozenset({Need.NUCLEUS}),
    ),
    "distill": Algorithm(
        about="On-policy distillation: A_t = log p_teacher - log p, whose gradient is that of KL(policy || teacher) on "
        "the policy's own samples; a credit adds rewards. Set learner.teacher_path to a folder or an endpoint. "
        "arXiv 2306.13649, arXiv 2306.08543",
        credit=zeros,
        aggregate=Aggregation.TOKEN_MEAN,
        side_models=(SideModelKind.TEACHER,),
    ),
    "self-distill": Algorithm(
        about="On-policy self-distillation: the teacher is the policy itself, which reads prompt and correct response "
        "of a sibling before the prompt. It learns nothing where no sibling is correct. After arXiv 2601.20802 (SDPO)",
        drop=drop_all_wrong,
        credit=zeros,
        aggregate=Aggregation.TOKEN_MEAN,
        siblings=2,
        side_models=(SideModelKind.INFORMED,),
    ),
    # ------------------------------------------------------------------------------- variants of GRPO
    "dr-grpo": Algorithm(
        about="GRPO without the two biases: A = r - mean r, and a constant instead of lengths. arXiv 2503.20783",
        credit=centred,
        aggregate=Aggregation.CONSTANT,
        siblings=2,
    ),
    "dapo": Algorithm(
        about="GRPO on mixed groups with clip-higher (0.2, 0.28), a mean over tokens, and a score that falls over the "
        "last fifth of the length. arXiv 2503.14476",
        drop=drop_both,
        credit=normalised,
        aggregate=Aggregation.TOKEN_MEAN,
        clip_high=0.28,
        overlong=0.2,
        siblings=2,
    ),
    "gspo": Algorithm(
        about="GRPO with the geometric mean of a response's ratios instead of each token's. arXiv 2507.18071",
        credit=normalised,
        ratio=Ratio.SEQUENCE,
        clip_low=3e-4,
        clip_high=4e-4,
        siblings=2,
    ),
    "cispo": Algorithm(
        about="L = -sg(min(s, 1 + high)) A log p: the weight is clipped, no token loses its gradient. arXiv 2506.13585",
        credit=normalised,
        loss=detached,
        aggregate=Aggregation.TOKEN_MEAN,
        clip_low=1.0,
        clip_high=0.28,
        siblings=2,
    ),
    "maxrl": Algorithm(
        about="A = (R - mean R) / mean R, R = r less the score of a wrong response: the success rate where GRPO has "
        "the deviation, so that hard prompts weigh more. A step to maximum likelihood. arXiv 2602.02710",
        credit=relative,
        siblings=2,
    ),
    "echo": Algorithm(
        about="GRPO and a small likelihood of what tools, users and other seats say between the turns of a response, "
        "so that the policy learns what its environment does, also where all siblings score alike",
        credit=normalised,
        echo=0.05,
        siblings=2,
        needs=frozenset({Need.TURNS}),
    ),
    "stable-reinforce": Algorithm(
        about="The log-ratio is bounded before exp, advantages are standardised over the batch, and beyond 3 sigma "
        "they are 0. arXiv 2505.02835",
        credit=raw,
        loss=preclipped,
        advantage_normalisation=Normalisation.STANDARDISE,
        kl_reward=1e-3,
    ),
}


def algorithm_of(
    name: str,
    pieces: Mapping[str, Any] | None = None,
    drop: str = "",
    table: Mapping[str, Algorithm] = ALGORITHMS,
) -> Algorithm:
    """The algorithm that a run trains with, the pieces it chooses filled in.

    Args:
        name: a key of the table.
        pieces: field of `Algorithm` -> what replaces it; None, "" and () leave the algorithm's own.
        drop: a key of `actors.filtering.rules.RULES` instead of the algorithm's own rule; "" leaves it.
        table: ALGORITHMS, or those and a person's own.
    """
    known = {field.name for field in fields(Algorithm)}
    chosen = {
        piece: _MEANINGS[piece](value) if piece in _MEANINGS else value
        for piece, value in (pieces or {}).items()
        if piece in known and value not in (None, "", ())
    }
    algorithm = replace(table[name], **chosen)
    if algorithm.credit.ddof is not None:
        algorithm = replace(algorithm, credit=replace(algorithm.credit, ddof=algorithm.std_ddof))
    return replace(algorithm, drop=RULES[drop]) if drop else algorithm


_MEANINGS: dict[str, Callable[[str], Any]] = {  # field of Algorithm -> what a word in the settings stands for
    "credit": CREDITS.__getitem__,
    "loss": LOSSES.__getitem__,
    "aggregate": Aggregation,
    "ratio": Ratio,
    "anchor": Anchor,
    "mismatch": Mismatch,
    "kl_estimator": KlEstimator,
    "advantage_normalisation": Normalisation,
}
