"""The section [reward] of the run file: what all rewards of a run share, and a sub-section for each reward."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator
from pydantic_core import PydanticKnownError

from rewards.combine import COMBINATIONS, CombinationSettings, check_combination, combine
from rewards.settings import Budget, KindSettings, Section
from rewards.table import REWARDS
from rewards.verdict import RewardResult

KINDS: dict[str, type[KindSettings]] = {kind: reward.settings for kind, reward in REWARDS.items()}
KINDS |= dict.fromkeys(COMBINATIONS, CombinationSettings)


def _typed(section: object) -> KindSettings:
    """The sub-section as its kind's own settings."""
    if isinstance(section, KindSettings):
        return section
    if not isinstance(section, Mapping):
        raise PydanticKnownError("extra_forbidden")
    return KINDS[section["kind"]].model_validate(section)


class RewardSettings(Section):
    """How responses are graded. Beside these settings, each sub-section is a reward by the name of the sub-section.

    Its `kind` says which reward it is; a sub-section whose name is a kind is of that kind. A kind that needs no
    settings needs no sub-section.

    Example: ``RewardSettings(name="both", both={"kind": "sum", "weights": {"sql": 0.9, "format": 0.1}},
    sql={"databases": "/data"})``
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[SerializeAsAny[KindSettings], BeforeValidator(_typed)]] = Field(init=False)

    name: str = "number"  # the reward of rows that name none: a sub-section or a kind
    wrong: float = -1.0  # the score of a reward of 0
    correct: float = 1.0  # the score of a reward of 1
    seconds: Annotated[float, Field(gt=0)] = 10.0  # the grading of a response may take so long; then see timeout
    timeout: Literal["wrong", "none"] = (
        "wrong"  # the score of a response whose grading takes longer: that of a wrong one
    )
    memory_mib: Annotated[int, Field(ge=64)] = 2048  # of the process that grades, and of code that it runs
    span_weight: Annotated[float, Field(ge=0)] = 0.0  # weight of span rewards, on their own tokens
    score_weight: Annotated[float, Field(ge=0)] = 1.0  # weight of the score on the last token, beside span rewards

    @property
    def sections(self) -> Mapping[str, KindSettings]:
        """The rewards that have a sub-section, by name."""
        return self.__pydantic_extra__

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that `name`, a combination or a row may name: kinds first, then other sub-sections."""
        return (*KINDS, *(name for name in self.sections if name not in KINDS))

    @property
    def budget(self) -> Budget:
        """What the grading of one response may take."""
        return Budget(seconds=self.seconds, memory_mib=self.memory_mib)

    def of(self, name: str) -> KindSettings:
        """The settings of a reward.

        Raises:
            KeyError: there is no reward of that name.
        """
        return self.sections[name] if name in self.sections else KINDS[name](kind=name)

    def leaves(self, name: str) -> dict[str, KindSettings]:
        """The rewards that a reward is made of, by name: itself, or the parts of a combination in their order.

        Raises:
            KeyError: there is no reward of that name.
        """
        settings = self.of(name)
        if isinstance(settings, CombinationSettings):
            return {part: self.of(part) for part in settings.weights}
        return {name: settings}

    def joined(self, name: str, results: Mapping[str, RewardResult]) -> RewardResult:
        """The result of a reward from the results of its leaves."""
        settings = self.of(name)
        if isinstance(settings, CombinationSettings):
            return combine(settings.kind, settings.weights, results)
        return results[name]

    def wants_group(self, name: str) -> bool:
        """Whether the siblings of a prompt are to be graded together: the reward, or a part of it, compares them."""
        for settings in self.leaves(name).values():
            wants = REWARDS[settings.kind].wants_group
            if wants is not None and wants(settings):
                return True
        return False

    @model_validator(mode="before")
    @classmethod
    def _every_section_has_a_kind(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        found = dict(tree)
        for name, section in tree.items():
            if isinstance(section, KindSettings):
                found[name] = section.model_copy(update={"kind": _kind(name, section.kind)})
            elif isinstance(section, Mapping):
                if name in cls.model_fields:
                    raise ValueError(f"reward.{name} is a setting of all rewards and cannot name one, got {section}")
                found[name] = {**section, "kind": _kind(name, section.get("kind", ""))}
        return found

    @model_validator(mode="after")
    def _tells_right_from_wrong(self) -> Self:
        if not self.wrong <= 0 < self.correct:
            raise ValueError(
                f"reward.wrong must be at most 0 and reward.correct above 0, got {self.wrong:g} and {self.correct:g}: "
                "a score above 0 is what filters and algorithms take for correct"
            )
        if self.score_weight != 1.0 and not self.span_weight:
            raise ValueError(
                f"reward.score_weight weighs the score beside span rewards, got {self.score_weight:g}: "
                "set reward.span_weight"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.name not in self.names:
            raise ValueError(f"reward.name must be one of {', '.join(self.names)}, got {self.name!r}")
        kinds = {name: self.of(name).kind for name in self.names}
        for name, settings in {self.name: self.of(self.name), **self.sections}.items():
            if isinstance(settings, CombinationSettings):
                check_combination(name, settings.kind, settings.weights, kinds)
        used = {**self.leaves(self.name), self.name: self.of(self.name), **self.sections}
        if self.wrong != -self.correct and any(map(_between, used.values())):
            raise ValueError(
                "reward.wrong must be minus reward.correct for a reward between wrong and correct, got "
                f"{self.wrong:g} and {self.correct:g}: a score above 0 is what filters and algorithms take for correct"
            )
        return self

    @property
    def gives_spans(self) -> bool:
        """Whether any reward of the run gives span rewards."""
        used = {**self.leaves(self.name), **self.sections}
        return any(settings.kind in REWARDS and REWARDS[settings.kind].gives_spans for settings in used.values())


def _kind(name: str, kind: object) -> str:
    """The kind of a sub-section, which is its name where it names none."""
    there = ", ".join(KINDS)
    if not kind:
        if name not in KINDS:
            raise ValueError(
                f"reward.{name} needs a kind, because {name!r} is none: set reward.{name}.kind to one of {there}"
            )
        return name
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"reward.{name}.kind must be one of {there}, got {kind!r}")
    if name in KINDS and kind != name:
        raise ValueError(
            f"reward.{name} has the name of a kind and must be of it, got reward.{name}.kind = {kind!r}: rename it"
        )
    return kind


def _between(settings: KindSettings) -> bool:
    """Whether a reward may lie between 0 and 1."""
    if settings.kind in COMBINATIONS:
        return True
    return REWARDS[settings.kind].graded or getattr(settings, "partial", 0.0) > 0
