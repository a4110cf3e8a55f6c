"""Which files of a folder are sent."""

from pathlib import Path

from cluster.jobs.selection import select


def folder_of(base: Path, *names: str) -> Path:
    """A folder with files of these names; a name that ends in a slash is an empty folder."""
    for name in names:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_text("x")
    return base


def test_what_only_this_machine_needs_stays(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        *("run.toml", "data/a.jsonl", "rewards_of_mine/grade.py", "lib.py"),
        *(".git/HEAD", ".venv/x", "venv/x", "my-env/pyvenv.cfg", "my-env/lib/x", "other/conda-meta/history"),
        *("runs/demo/metrics.jsonl", "kept/config.toml", "kept/lock", "kept/metrics.jsonl", "checkpoints/x"),
        *("__pycache__/x.pyc", "data/__pycache__/y.pyc", "any-cache/CACHEDIR.TAG", "build/x", "dist/x", "p.egg-info/x"),
        *(".env", "data/.netrc", "wandb/x", "node_modules/x"),
    )
    found = select(folder, ())
    assert list(found.files) == ["data/a.jsonl", "lib.py", "rewards_of_mine/grade.py", "run.toml"]
    assert {".env", ".git/", "my-env/", "kept/", "data/.netrc", "p.egg-info/", "runs/"} <= set(found.left_out)


def test_what_a_run_names_is_sent_although_it_is_ignored(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, ".gitignore", "big.jsonl", "models/m/config.json", "models/m/__pycache__/x", "models/n"
    )
    (folder / ".gitignore").write_text("*.jsonl\nmodels\n")
    assert list(select(folder, ()).files) == [".gitignore"]
    found = select(folder, [folder / "big.jsonl", folder / "models/m"])
    assert list(found.files) == [".gitignore", "big.jsonl", "models/m/config.json"]
    assert found.left_out == ("models/",)


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", "a.py", "deep/b.py")
    folder_of(tmp_path / "elsewhere", "c.py")
    (folder / "deep/up").symlink_to(folder)
    (folder / "there").symlink_to(tmp_path / "elsewhere")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    assert list(select(folder, ()).files) == ["a.py", "deep/b.py", "there/c.py"]
