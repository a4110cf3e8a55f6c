"""The text of each token of a response, by the tokenizer of the run's model, where that is found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.browsing.folder import RunFolder
from cluster.config.errors import ConfigError
from cluster.config.run_files import CHECKPOINTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTexts:
    """A tokenizer, or why there is none."""

    tokenizer: "Tokenizer | None"
    why: str  # where it comes from, or why there is none

    def of(self, ids: Sequence[int]) -> list[str | None]:
        """The text that each token adds behind those before it. Of several tokens that make one character the last one
        has it and the others ""; a token that the tokenizer does not know has None."""
        from tokenizers.decoders import DecodeStream

        assert self.tokenizer is not None
        known = {id for id in set(ids) if id >= 0 and self.tokenizer.id_to_token(id) is not None}
        texts: list[str | None] = []
        stream = DecodeStream(skip_special_tokens=False)
        for id in ids:
            if id not in known:
                texts.append(None)
                continue
            try:
                texts.append(stream.step(self.tokenizer, id) or "")
            except Exception:  # of the package, where bytes that are no character end one
                stream = DecodeStream(skip_special_tokens=False)
                texts.append(self.tokenizer.decode([id], skip_special_tokens=False))
        return texts


def token_texts(run: RunFolder, given: Path | None = None) -> TokenTexts:
    """The tokenizer of a run's model: of a folder that a person gives, else of a checkpoint, else of `model.path`.

    Raises:
        ConfigError: the folder that was given holds none.
    """
    if given is not None:
        found = _tokenizer(given / FILE if given.is_dir() else given)
        if isinstance(found, str):
            raise ConfigError(f"--tokenizer {given}: {found}")
        return TokenTexts(tokenizer=found, why=f"Tokens are shown as {given} has them.")
    problems = []
    for folder in _folders(run):
        if (folder / FILE).is_file():
            found = _tokenizer(folder / FILE)
            if not isinstance(found, str):
                return TokenTexts(tokenizer=found, why=f"Tokens are shown as {folder} has them.")
            problems.append(found)
    model = run.setting("model", "path") or "the run's model"
    why = "; ".join(problems[:2]) or f"neither its checkpoints nor {model} are here with a {FILE}"
    return TokenTexts(
        tokenizer=None,
        why=f"There is no tokenizer of this run ({why}), so that responses are shown as text, without tokens. "
        "winnow rollouts RUN --tokenizer FOLDER names one.",
    )


def _folders(run: RunFolder) -> Iterator[Path]:
    yield from sorted((run.path / CHECKPOINTS).glob("step-*"), reverse=True)
    yield run.path / "warmup"
    yield run.path / "world" / "model"
    if model := str(run.setting("model", "path") or ""):
        yield Path(model).expanduser()


def _tokenizer(file: Path) -> "Tokenizer | str":
    """What a file holds, or what is wrong with it."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as failure:  # the package raises a bare Exception
        return f"{file} cannot be read: {str(failure)[:200]}"
