"""A teacher at an endpoint: what it is asked, what it says, and what is said where it does not answer."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.data.world import ALPHABET
from learner.models.tiny import write_tiny_model
from learner.settings import LearnerSettings
from learner.teacher import PATIENCE, Teacher, TeacherFailed, is_endpoint
from tests.teachers import served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    write_tiny_model(folder, alphabet=ALPHABET, seed=1)
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with served(folder, monkeypatch) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "asked"), [("http://host:8000/v1", True), ("HTTPS://host/v1#m", True), ("x/y", False)]
)
def test_an_address_is_told_from_a_folder(path: str, asked: bool) -> None:
    assert is_endpoint(path) is asked
    assert LearnerSettings(teacher_path=path).teacher_folder == ("" if asked else path)
    assert not is_endpoint("s3://bucket/model")


def test_an_endpoint_that_fails_for_a_while_is_asked_again_and_nothing_is_lost(server: Any) -> None:
    server.faults = [(503, "starting"), (429, "busy"), (500, "again")]
    found = list(Teacher(server.url).logprobs([[1, 2, 3], [4, 5]]))
    assert [one.shape for one in found] == [(2,), (1,)]
    assert len(server.asked) == 5


def test_sequences_come_back_in_order(server: Any) -> None:
    teacher = Teacher(server.url)
    sequences = [[n % 15, (n + 1) % 15, n % 7] for n in range(40)]
    together = list(teacher.logprobs(sequences))
    alone = [next(teacher.logprobs([tokens])) for tokens in sequences[::10]]
    np.testing.assert_allclose(together[::10], alone)


def test_a_failure_gives_up_what_is_not_under_way(server: Any) -> None:
    server.faults = [(401, "no such key")] * 200
    with pytest.raises(TeacherFailed, match=r"completions answered with status 401: '\"no such key\"'"):
        list(Teacher(server.url).logprobs([[1, 2]] * 200))
    assert len(server.asked) < 200


def test_a_failure_travels_from_a_rank_to_the_driver() -> None:
    assert str(pickle.loads(pickle.dumps(TeacherFailed("it serves none")))) == "it serves none"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"choices": [{"text": ""}]}, "gives no log-probabilities of a prompt's tokens"),
        ({"choices": [{"prompt_logprobs": None}]}, "gives no log-probabilities of a prompt's tokens"),
        ({"choices": [{"prompt_logprobs": [None, {"2": {"logprob": -1.0}}]}]}, "other tokens than the 3"),
        ({"choices": [{"prompt_logprobs": [None, *[{"9": {"logprob": -1.0}}] * 2]}]}, "other tokens than the 3"),
    ],
)
def test_an_answer_without_what_was_asked_for_is_an_error(server: Any, reply: dict, message: str) -> None:
    teacher = Teacher(server.url)
    server.faults = [(200, reply)]
    with pytest.raises(TeacherFailed, match=message):
        list(teacher.logprobs([[1, 2, 3]]))


def test_one_of_several_models_is_named_behind_the_address(server: Any) -> None:
    server.names = ["small", "large"]
    with pytest.raises(TeacherFailed, match="serves small, large: name one of them behind the address, #NAME"):
        Teacher(server.url)
    with pytest.raises(TeacherFailed, match="serves small, large"):
        Teacher(f"{server.url}#huge")
    next(Teacher(f"{server.url}/#large").logprobs([[1, 2]]))
    assert server.asked[-1]["model"] == "large"


def test_an_endpoint_that_is_not_there_is_named_when_patience_is_over() -> None:
    assert PATIENCE > 300  # a server that is started anew may read a large model
    with pytest.raises(TeacherFailed, match=r"http://127.0.0.1:1/v1/models cannot be reached"):
        Teacher("http://127.0.0.1:1/v1", patience=0.1)
