"""Which files of a folder are sent."""

from pathlib import Path

import pytest

from cluster.jobs.selection import is_secret, select
from tests.project.reference import ROOT


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
    assert found.left_out == ("models/m/__pycache__/", "models/n")


@pytest.mark.parametrize("rules", ["", "data\n"])
def test_no_file_of_keys_is_sent_with_a_folder_that_a_run_names(tmp_path: Path, rules: str) -> None:
    folder = folder_of(tmp_path, *("data/a.jsonl", "data/.env", "data/.ssh/id_rsa", "data/deep/.netrc", ".env.local"))
    (folder / ".gitignore").write_text(rules)
    found = select(folder, [folder / "data"])
    assert list(found.files) == [".gitignore", "data/a.jsonl"]
    assert {".env.local", "data/.env", "data/.ssh/"} <= set(found.left_out)
    named = select(folder, [folder / "data/.env"])
    assert "data/.env" in named.files
    assert "data/.env" not in named.left_out


def test_a_link_to_a_file_of_keys_is_one(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", "a.py")
    folder_of(tmp_path / "home", ".netrc")
    (folder / "harmless").symlink_to(tmp_path / "home/.netrc")
    assert (list(select(folder, ()).files), select(folder, ()).left_out) == (["a.py"], ("harmless",))


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", ".env.production", "prod.env", ".ENV", ".envrc", ".netrc", ".npmrc", ".pypirc"),
        *("credentials", "credentials.json", "application_default_credentials.json", "client_secret_12.json"),
        *("service-account.json", "service_account_key.json", "secrets.toml", "secrets.yaml", "credentials.yml"),
        *("server.pem", "tls.key", "SERVER.PEM", "id_rsa", "id_ed25519", "id_ecdsa_sk", "key.p12", "putty.ppk"),
        *(".ssh", ".aws", ".azure", "gcloud", "kubeconfig", "auth_token", "kaggle.json", ".pgpass", ".git-credentials"),
    ],
)
def test_a_file_of_keys_is_known_by_its_name(name: str) -> None:
    assert is_secret(Path("any") / name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "environment.py",
            "env.py",
            "env",
            "envs",
            "environment.yml",
            ".env.example",
            "key.py",
            "keys.jsonl",
            "id.txt",
        ),
        *("secrets.py", "token.py", "tokenizer.json", "special_tokens_map.json", "credentials.py", "monkey.txt"),
        *("id_rsa.pub", "config.json", "model.safetensors", ".rayignore", ".gitignore"),
    ],
)
def test_what_only_sounds_like_one_is_none(name: str) -> None:
    assert not is_secret(Path("any") / name)


def test_winnows_own_files_are_none() -> None:
    own = [path for name in ("actors", "cluster", "learner", "rewards") for path in (ROOT / name).rglob("*")]
    assert len(own) > 100
    assert not [path for path in own if is_secret(path)]


def test_what_lies_beside_a_reward_travels_with_it(tmp_path: Path) -> None:
    beside = ("environment.py", "env.py", "env/__init__.py", "envs/maze.py", "keys.py", "secrets.py", "cases.json")
    folder = folder_of(tmp_path, *(f"grading/{name}" for name in ("grade.py", ".env", *beside)))
    found = select(folder, [folder / "grading/grade.py"])
    assert set(found.files) == {f"grading/{name}" for name in ("grade.py", *beside)}
    assert found.left_out == ("grading/.env",)


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", "a.py", "deep/b.py")
    folder_of(tmp_path / "elsewhere", "c.py")
    (folder / "deep/up").symlink_to(folder)
    (folder / "there").symlink_to(tmp_path / "elsewhere")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    assert list(select(folder, ()).files) == ["a.py", "deep/b.py", "there/c.py"]
