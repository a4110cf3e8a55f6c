"""`winnow merge`: an adapter checkpoint becomes the folder of a whole model."""

import shutil
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.preparing.models import check_policy, weight_files

KEPT = ("*.json", "*.txt", "*.model", "*.jinja")  # files of a model's folder that are the merged model's too
SETTING = "--base"  # how messages call the folder of the adapter's model


def merge_folder(checkpoint: Path, out: Path, base: Path | None = None) -> Path:
    """Writes the model of an adapter with the adapter merged into it, shard by shard; gives the folder of that model.

    Args:
        checkpoint: an adapter folder, such as a checkpoint of a run with `learner.adapter`.
        out: the folder to write; it must be empty or not there.
        base: the folder of the adapter's model, where it is no longer where the adapter says.

    Raises:
        ConfigError: one of the folders is not what it should be; nothing is written then.
    """
    from learner.adapter_folder import AdapterFolder, UnfitAdapter, check_merge, write_merged

    if (checkpoint / "config.json").is_file():
        raise ConfigError(f"{checkpoint} is a whole model already: there is nothing to merge")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is there and not an empty folder: name a new one")
    try:
        adapter = AdapterFolder.read(checkpoint)
        model = base or adapter.base
        if base is None and not model.is_dir():
            raise ConfigError(
                f"{checkpoint} is an adapter for the model in {model}, which is not there: say where it is with --base"
            )
        check_policy(model, SETTING)
        files = weight_files(model, SETTING)
        check_merge(adapter, files)
        out.mkdir(parents=True, exist_ok=True)
        for kept in sorted(file for pattern in KEPT for file in model.glob(pattern)):
            if kept.name != "model.safetensors.index.json":
                shutil.copyfile(kept, out / kept.name)
        write_merged(adapter, files, out)
    except UnfitAdapter as problem:
        raise ConfigError(str(problem)) from problem
    return model
