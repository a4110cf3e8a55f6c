"""vLLM's own server as teacher: what it says of tokens is what the model in the folder says of them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.data.world import ALPHABET
from learner.models.tiny import write_tiny_model
from learner.teacher import Teacher

START_SECONDS = 300.0
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
QUICK = {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
pytestmark = pytest.mark.ray


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    write_tiny_model(folder, alphabet=ALPHABET, heads=8, seed=1)
    return folder


@pytest.fixture
def url(model: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--served-model-name", "teacher"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | ON_CPU | QUICK, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


def test_what_its_server_says_of_tokens_is_what_the_model_says(model: Path, url: str) -> None:
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, len(ALPHABET), size).tolist() for size in (2, 9, 40, 17)]
    teacher = Teacher(url, START_SECONDS)  # is patient until the server has started
    assert teacher.ids_of("1+2=3") == [ALPHABET.index(letter) for letter in "+2=3"]
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for tokens, found in zip(sequences, teacher.logprobs(sequences), strict=True):
        with torch.no_grad():
            logp = lm(torch.tensor([tokens])).logits[0].log_softmax(-1)
        own = [float(logp[place, token]) for place, token in enumerate(tokens[1:])]
        np.testing.assert_allclose(found, own, atol=1e-4)
    assert teacher.holds is not None
