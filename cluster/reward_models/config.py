"""The run file of a reward model: the sections of any run file, as far as such a run reads them."""

from pathlib import Path
from typing import Annotated, Self

import tomli_w
from pydantic import Field, model_validator

from actors.settings import DataSettings, EvalSettings, RolloutSettings
from cluster.config.addresses import is_address
from cluster.config.reading import CONFIG
from cluster.config.run_config import RunConfig
from cluster.config.sections import ClusterSettings, RunSettings
from learner.settings import LearnerSettings, ModelSettings
from rewards import Section

READ = {  # the settings that such a run reads
    "run": ("name", "note", "folder", "seed", "steps", "checkpoint_every", "keep_checkpoints"),
    "model": ("path", "dtype", "attention", "checkpointing"),
    "data": ("path", "rows", "prompt_column", "system_column", "system"),
    "learner": (
        *("batch", "lr", "lr_end", "lr_warmup", "weight_decay", "grad_clip", "micro_batch_tokens"),
        *("zero_stage", "offload", "adapter"),
    ),
    "eval": ("every", "path", "rows"),
    "cluster": ("address", "device", "learner_ranks", "env", "nodes", "wait_minutes"),
}


class RewardModelLearner(LearnerSettings):
    """The optimizer."""

    batch: Annotated[int, Field(ge=1)] = 64  # rows of an update
    lr: Annotated[float, Field(gt=0)] = 1e-5  # learning rate of AdamW


class RewardModelConfig(Section):
    """All settings of the training of a reward model; a step is one optimizer update."""

    run: RunSettings = RunSettings()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    learner: RewardModelLearner = RewardModelLearner()
    eval: EvalSettings = EvalSettings()
    cluster: ClusterSettings = ClusterSettings()

    @property
    def as_run(self) -> RunConfig:
        """The run for those parts that learners of all kinds share: placement, environment, copies, engine."""
        learner = {key: getattr(self.learner, key) for key in READ["learner"] if key != "batch"}
        return RunConfig(
            run=self.run,
            model=self.model,
            data=self.data,
            learner=LearnerSettings(**learner),
            eval=EvalSettings(path=self.eval.path, rows=self.eval.rows),
            rollout=RolloutSettings(groups_per_step=max(self.learner.batch, self.cluster.learner_ranks)),
            cluster=self.cluster,
        )

    def write(self, folder: Path) -> None:
        """Writes what it reads into the run folder."""
        tree = self.model_dump(mode="json", exclude_none=True)
        kept = {
            section: {key: tree[section][key] for key in keys if key in tree[section]} for section, keys in READ.items()
        }
        (folder / CONFIG).write_text(tomli_w.dumps(kept), encoding="utf-8")

    @model_validator(mode="after")
    def _reads_all_that_is_set(self) -> Self:
        for name, read in READ.items():
            if unread := sorted(getattr(self, name).model_fields_set - set(read)):
                raise ValueError(
                    f"{name}.{unread[0]} means nothing in the training of a reward model, which reads of [{name}] "
                    f"{', '.join(read)}: remove it"
                )
        return self

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for setting, value in (("model.path", self.model.path), ("data.path", self.data.path)):
            if not value:
                raise ValueError(f"{setting} must be set")
        for setting, path in (("data.path", self.data.path), ("eval.path", self.eval.path)):
            if not isinstance(path, str):
                raise ValueError(f"{setting} must be one file, folder or pattern for a reward model, got {path}")
        if not isinstance(self.data.prompt_column, str):
            raise ValueError(f"data.prompt_column must be one column here, got {list(self.data.prompt_column)}")
        if is_address(self.run.folder):
            raise ValueError(f"run.folder must be a folder for a reward model, got {self.run.folder!r}")
        if self.eval.every and not (self.eval.path or self.eval.rows):
            raise ValueError(
                "eval.path must be set when eval.every is above 0: a file of held-out rows; or eval.rows, such as "
                '"-50:", to hold out rows of data.path, with data.rows = ":-50" for the others'
            )
        return self
