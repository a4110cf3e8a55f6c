"""Whether frozen models beside the policy say something of its tokens, found out before Ray starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from cluster.config.errors import ConfigError
from cluster.config.models import check_model, positions_of
from cluster.config.run_config import RunConfig
from cluster.preparing.models import load_tokenizer
from learner.methods.choices import SideModelKind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATHS = {SideModelKind.TUNED: "tuned_path", SideModelKind.TEACHER: "teacher_path"}


def check_beside(config: RunConfig, tokenizer: "PreTrainedTokenizerBase", tokens: int, positions: int) -> None:
    """Whether the tuned policy or the teacher of a run means the same by each token as its policy, and can hold what
    the policy says; whether the policy can hold twice as much, where it teaches itself.

    Args:
        config: of a run whose folders of models have been checked.
        tokenizer: of the policy.
        tokens: of the longest prompt and response together.
        positions: most tokens that the policy can hold.

    Raises:
        ConfigError: one does not; log-probabilities of other tokens would teach nonsense unseen.
    """
    if SideModelKind.INFORMED in config.algorithm.side_models and positions < 2 * tokens:
        raise ConfigError(
            f"learner.algorithm = {config.learner.algorithm!r} has the policy read another response before its own, "
            f"{2 * tokens} tokens at most, and model.path = {config.model.path!r} holds {positions}: lower "
            f"rollout.max_new_tokens = {config.rollout.max_new_tokens}"
        )
    for kind in config.algorithm.side_models:
        if name := PATHS.get(kind):
            told = f"learner.{name} = {getattr(config.learner, name)!r}"
            _check(Path(getattr(config.learner, name)), told, config, tokenizer, tokens)


def _check(folder: Path, told: str, config: RunConfig, tokenizer: "PreTrainedTokenizerBase", tokens: int) -> None:
    theirs, own = load_tokenizer(folder, told.partition(" ")[0]).get_vocab(), tokenizer.get_vocab()
    if other := sorted((id, text) for text, id in own.items() if theirs.get(text) != id):
        id, text = other[0]
        means = f"token {theirs[text]}" if text in theirs else "no token"
        raise ConfigError(
            f"{told} has another vocabulary than model.path = {config.model.path!r}: {text!r} is token {id} there and "
            f"{means} here ({len(other)} of {len(own)} tokens differ). Take a model of the policy's own family, whose "
            "token ids are the same"
        )
    if (has := _logits(folder)) < (wanted := _logits(Path(config.model.path))):
        raise ConfigError(
            f"{told} has logits for {has} tokens and the policy for {wanted}: a token that the policy may sample would "
            "have no probability. Take a model with at least as many"
        )
    if (holds := positions_of(folder)) < tokens:
        raise ConfigError(
            f"{told} holds {holds} tokens, and a prompt and its response may have {tokens}: take a model that holds "
            f"more, or lower rollout.max_new_tokens = {config.rollout.max_new_tokens}"
        )


def _logits(folder: Path) -> int:
    """For how many tokens a model has logits; 0 where its config.json does not say."""
    read = check_model(folder)
    size = (read.get("text_config") or read).get("vocab_size")
    return size if isinstance(size, int) else 0
