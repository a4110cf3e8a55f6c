"""A secret in a setting is refused without being repeated, and what is said holds none."""

import logging
import string
from pathlib import Path

import pytest

from actors.secrets import HIDDEN, hidden, names_secret
from cluster.cli import main
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.secrets import secret_settings
from cluster.reporting.display import Display
from cluster.reporting.logs import log_file
from cluster.reporting.terminal import say

WORLD = {"world": {"name": "addition"}}
# In each form that a secret may have; none is one.
BODY = string.ascii_uppercase + string.digits + string.ascii_lowercase[:10]
KEYS = [f"sk-proj-{BODY}", f"hf_{BODY}", f"ghp_{BODY}", f"AKIA{BODY[:16]}", f"eyJ{BODY}.eyJ{BODY}.{BODY}"]
SECRET = "correct horse battery"

PLANTED = [
    ({"cluster": {"env": {"OPENAI_API_KEY": SECRET}}}, "cluster.env.OPENAI_API_KEY", SECRET),
    ({"cluster": {"env": {"AWS_SECRET_ACCESS_KEY": SECRET}}}, "cluster.env.AWS_SECRET_ACCESS_KEY", SECRET),
    ({"cluster": {"env": {"db_password": SECRET}}}, "cluster.env.db_password", SECRET),
    *(({"cluster": {"env": {"PLAIN": f"a {key}"}}}, "cluster.env.PLAIN", key) for key in KEYS),
    ({"reward": {"judge": {"url": "https://me:pass-word@host/v1"}}}, "reward.judge.url", "pass-word"),
    ({"reward": {"judge": {"url": "https://host/v1?api_key=abcdefgh"}}}, "reward.judge.url", "abcdefgh"),
    ({"data": {"path": "s3://KEY:abc-def@bucket/x.jsonl"}}, "data.path", "abc-def"),
    ({"data": {"path": {"s3://KEY:abc-def@bucket/x.jsonl": 1.0}}}, "data.path", "abc-def"),
    ({"model": {"path": "https://host/m?X-Amz-Signature=abcdef123"}}, "model.path", "abcdef123"),
    ({"run": {"note": f"with {KEYS[0]}"}}, "run.note", KEYS[0]),
    ({"rollout": {"stop": [KEYS[1]]}}, "rollout.stop", KEYS[1]),
    ({"nowhere": {"api_key": KEYS[0]}}, "nowhere.api_key", KEYS[0]),  # a setting that there is not
]


@pytest.mark.parametrize(("tree", "name", "secret"), PLANTED)
def test_a_secret_in_a_setting_is_refused_by_the_name_of_the_setting_alone(tree: dict, name: str, secret: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config_of(tree | WORLD)
    assert str(refusal.value).startswith(f"{name} looks like a secret (")
    assert secret not in str(refusal.value)
    assert "environment" in str(refusal.value)


@pytest.mark.parametrize(
    "tree",
    [
        {"cluster": {"env": {"TOKENIZERS_PARALLELISM": "false", "NCCL_SOCKET_IFNAME": "eth0"}}},
        {"cluster": {"env": {"GOOGLE_APPLICATION_CREDENTIALS": "/etc/gcp.json", "TOKEN_FILE": "/etc/token"}}},
        {"model": {"path": "/models/sk-learn-text-classifier", "control_tokens": ["<good>", "<bad>"]}},
        {"data": {"path": "s3://bucket/x.jsonl?region=eu-west-1", "template": "key: {prompt}"}},
        {"reward": {"judge": {"url": "http://host:8000/v1"}}},
    ],
)
def test_what_is_no_secret_may_stand_in_a_setting(tree: dict) -> None:
    assert secret_settings(tree) == []


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN", "secret", "MLFLOW_TRACKING_PASSWORD"])
def test_names_of_secrets_are_known(name: str) -> None:
    assert names_secret(name)


def test_what_is_said_and_logged_holds_no_secret_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    monkeypatch.setenv("SOME_TOKEN", "short")  # of which "short" is no reason to hide a word
    said = f"status 401: {SECRET} and {KEYS[0]} at https://me:pass@host, in short"
    assert hidden(said) == f"status 401: {HIDDEN} and {HIDDEN} at https://{HIDDEN}@host, in short"
    assert (
        hidden("at https://host/m?part=1&X-Amz-Signature=ab12.") == f"at https://host/m?part=1&X-Amz-Signature={HIDDEN}"
    )
    with log_file(tmp_path), Display(steps=1) as display:
        say(said)
        display.say(said)
        display.status(said)
        logging.getLogger("winnow").warning("%s", said)
        logging.getLogger("elsewhere").warning("%s", said)
        try:
            raise ValueError(said)
        except ValueError:
            logging.getLogger("winnow").warning("failed", exc_info=True)
    shown = capsys.readouterr()
    written = (tmp_path / "winnow.log").read_text()
    for text in (shown.out, shown.err, written):
        assert SECRET not in text
        assert KEYS[0] not in text
    assert written.count("in short") >= 4


@pytest.mark.parametrize(("tree", "name", "secret"), PLANTED[:9])
def test_a_secret_on_the_command_line_leaves_no_file_and_no_word_of_itself(
    tree: dict,
    name: str,
    secret: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('[world]\nname = "addition"\n')
    value = tree
    for part in name.split("."):
        value = value[part]
    for more in ([], ["--plan"]):
        assert main(["train", "run.toml", f"{name}={value}", *more]) == 2
    shown = capsys.readouterr()
    assert secret not in shown.out + shown.err
    assert f"{name} looks like a secret" in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]
