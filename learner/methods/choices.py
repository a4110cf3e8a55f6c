"""The closed sets of words that an algorithm chooses from. Each word carries the formula that stands for it in the
objective of a run (`learner/methods/formula.py`)."""

from enum import StrEnum
from typing import Literal, Self


class Choice(StrEnum):
    """A word of a closed set, written as `NAME = "word", "its formula"`."""

    formula: str

    def __new__(cls, word: str, formula: str = "") -> Self:
        choice = str.__new__(cls, word)
        choice._value_, choice.formula = word, formula
        return choice


class Ratio(Choice):
    """Whose log p - log p_anchor is the log-ratio of a token."""

    TOKEN = "token", "of the token"
    SEQUENCE = "sequence", "geometric mean over the response"  # mean of the log-ratios. arXiv 2507.18071, GSPO
    TURN = (
        "turn",
        "geometric mean over the turn",
    )  # of a conversation. arXiv 2503.09501, ReMA
    PRODUCT = "product", "of the response"  # sum of the log-ratios. arXiv 2503.14286, TOPR


class Anchor(Choice):
    """The policy that the ratio is against."""

    STEP = "step", "p_step"  # the policy at the start of the step
    SAMPLER = "sampler", "p_sampler"  # the policy that sampled the response


class Mismatch(Choice):
    """The weight of a token for having been sampled by a slightly other policy; q = p_step / p_sampler."""

    NONE = "none", "1"
    TRUNCATE = "truncate", "min(q, cap)"
    MASK = "mask", "q [q <= cap]"
    TRUNCATE_RESPONSE = "truncate-response", "min(prod q, cap)"
    MASK_RESPONSE = "mask-response", "prod q [prod q <= cap]"

    @property
    def level(self) -> Ratio:
        """Whether q is a token's own or the product over its response."""
        return Ratio.PRODUCT if self in (Mismatch.TRUNCATE_RESPONSE, Mismatch.MASK_RESPONSE) else Ratio.TOKEN

    @property
    def masks(self) -> bool:
        """Whether a weight above the cap becomes 0; else it becomes the cap."""
        return self in (Mismatch.MASK, Mismatch.MASK_RESPONSE)


class Aggregation(Choice):
    """How the losses of the tokens of an update become one number."""

    TOKEN_MEAN = "token-mean", "sum over all tokens / number of tokens"
    SEQ_MEAN_TOKEN_MEAN = "seq-mean-token-mean", "mean over responses of (sum over its tokens / its length)"
    SEQ_MEAN_TOKEN_SUM = "seq-mean-token-sum", "mean over responses of (sum over its tokens)"
    CONSTANT = "constant", "sum over all tokens / (number of responses * rollout.max_new_tokens)"


class KlEstimator(Choice):
    """Estimate of KL(policy || reference policy) from d = log p - log p_reference of a token that the policy sampled.
    http://joschu.net/blog/kl-approx

    As a loss, k2 has the gradient of KL(policy || reference), k3 that of KL(reference || policy), and k1 none in
    expectation.
    """

    K1 = "k1", "d"
    K2 = "k2", "d^2/2"
    K3 = "k3", "(exp(-d) + d - 1)"


class Normalisation(Choice):
    """What is done to the advantages of all tokens of a step together."""

    NONE = "none", ""
    WHITEN = "whiten", ", whitened"  # mean 0, deviation 1
    STANDARDISE = "standardise", ", standardised, 0 beyond 3 sigma"


class Baseline(Choice):
    """What is taken off each score before the credit; the formula is what then stands for r."""

    NONE = "", "r"
    MOVING = "moving", "(r - mean of former r)"
    GREEDY = "greedy", "(r - r greedy)"
    ROLE = "role", "(r - moving mean of its seat's r)"


class Need(Choice):
    """What an algorithm needs beside the policy that is not a model."""

    GREEDY = "greedy", "a greedy response to each prompt"
    CONTROL = "control", "control tokens, one for each reward quantile"
    TURNS = "turns", "an environment that says something between the turns of a response (rollout.environment)"
    NUCLEUS = (
        "nucleus",
        "sampling from a nucleus (rollout.top_p), to which the ratio is restricted too, of the policy at the start of "
        "the step (rollout.max_staleness = 0)",
    )


class SideModelKind(Choice):
    """A model beside the policy; the formula is what it is there for.

    This is all that settings and estimates of memory ask: the models themselves are in `learner/models/side.py`.
    """

    REFERENCE = "reference", "log-probabilities of the starting policy"
    CRITIC = "critic", "a value model with an engine of its own"
    PROCESS = "process", "a model of process rewards with an engine of its own"
    TUNED = "tuned", "a tuned policy whose log-ratio to the reference is the reward of each token"
    TEACHER = "teacher", "a frozen policy, of any size, whose distribution of each token the policy learns"
    INFORMED = "informed", "the policy at the start of the step, which has read a sibling's correct response before"

    @property
    def trained(self) -> bool:
        """Whether it has gradients and optimizer states, as the policy has."""
        return self in (SideModelKind.CRITIC, SideModelKind.PROCESS)

    @property
    def teaches(self) -> bool:
        """Whether the policy learns from its log-probabilities, token by token."""
        return self in (SideModelKind.TEACHER, SideModelKind.INFORMED)

    @property
    def makes_credit(self) -> bool:
        """Whether advantages come from it in place of the algorithm's credit."""
        return self in (SideModelKind.CRITIC, SideModelKind.PROCESS)

    @property
    def rewards_tokens(self) -> bool:
        """Whether advantages take what it says of single tokens, which only the learner's ranks know."""
        return self is not SideModelKind.REFERENCE


Counted = Literal["all", "credited"]  # whether responses of credit 0 are trained on and stand in denominators
