"""Whether frozen models beside the policy say something of its tokens, found out before Ray starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from cluster.config.errors import ConfigError
from cluster.config.models import check_model, positions_of
from cluster.config.run_config import RunConfig
from cluster.preparing.models import load_tokenizer
from learner.methods.choices import SideModelKind
from learner.teacher import Teacher, TeacherFailed, is_endpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATHS = {SideModelKind.TUNED: "tuned_path", SideModelKind.TEACHER: "teacher_path"}
ASKING_SECONDS = 20.0  # for an endpoint to answer each of the questions before the run
PROBED = 256  # tokens of the vocabulary, at most, that are written one behind the other to see whether both read them


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
            path = getattr(config.learner, name)
            told = f"learner.{name} = {path!r}"
            if kind is SideModelKind.TEACHER and is_endpoint(path):
                _check_endpoint(path, told, config, tokenizer, tokens)
            else:
                _check(Path(path), told, config, tokenizer, tokens)


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


def _check_endpoint(
    address: str, told: str, config: RunConfig, tokenizer: "PreTrainedTokenizerBase", tokens: int
) -> None:
    """As `_check`, of a teacher whose vocabulary only its answers show: it is given a text, and the policy's last
    token."""
    text = _probe(tokenizer, tokens)
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    try:
        teacher = Teacher(address, ASKING_SECONDS)
        if teacher.holds is not None and teacher.holds <= tokens:
            raise ConfigError(
                f"{told} holds {teacher.holds} tokens, and is asked about a prompt and its response, {tokens} at most, "
                f"and one token more: serve it with more (vllm serve --max-model-len), or lower "
                f"rollout.max_new_tokens = {config.rollout.max_new_tokens}"
            )
        theirs = own[:1] + teacher.ids_of(text)
    except TeacherFailed as failure:
        raise ConfigError(f"{told}: {failure}") from failure
    if theirs != own:
        place = next((n for n, pair in enumerate(zip(own, theirs, strict=False)) if len(set(pair)) > 1), len(own))
        read = [tokenizer.decode(own[place : place + 1]), own[place : place + 1], theirs[place : place + 1]]
        raise ConfigError(
            f"{told} has another vocabulary than model.path = {config.model.path!r}: of the same text it makes "
            f"{len(theirs)} tokens and the policy {len(own)}, and where the policy has {read[0]!r}, token {read[1]}, "
            f"it has {read[2]}. Take a model of the policy's own family, whose token ids are the same"
        )
    last = max(_logits(Path(config.model.path)), max(own) + 1) - 1
    try:
        list(teacher.logprobs([[*own[:1], last]]))
    except TeacherFailed as failure:
        raise ConfigError(
            f"{told} does not take token {last}, which the policy may sample: {failure}. Take a model with logits for "
            f"{last + 1} tokens at least"
        ) from failure


def _probe(tokenizer: "PreTrainedTokenizerBase", most: int) -> str:
    """A text of tokens from all over a vocabulary, so few that a model reads them which holds `most`."""
    known = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    wanted = min(PROBED, max(1, most // 4))
    pieces = [str(tokenizer.decode([token])) for token in known[:: max(1, len(known) // wanted)]]
    return "".join(piece for piece in pieces if "\ufffd" not in piece)


def _logits(folder: Path) -> int:
    """For how many tokens a model has logits; 0 where its config.json does not say."""
    read = check_model(folder)
    size = (read.get("text_config") or read).get("vocab_size")
    return size if isinstance(size, int) else 0
