"""The memory that is counted before a run against what PyTorch allocates for a real engine on the CPU."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from cluster.config.reading import config_of
from cluster.preparing import budget
from cluster.preparing.budget import Device, During, learner_budget
from learner.models.sizes import Training, sizes_of
from learner.settings import AdapterSettings

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
TOKENS, CHUNK, BUCKET = 2048, 256, 1_100_000
TOLERANCE = 0.08  # of what was measured
# Of it, where two ranks wait for each other: which buckets or shards are held at once differs from run to run. The same
# engine at ZeRO 2 held 201.7 to 207.6 MB.
WHERE_RANKS_MEET = 0.15
SECONDS = 600


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 6 million parameters, a third of them embedding and head, as in a large one of few words."""
    folder = tmp_path_factory.mktemp("model")
    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=256,
        num_hidden_layers=4,
        intermediate_size=1024,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def measured(model: Path, case: dict[str, Any], ranks: int) -> int:
    """Bytes that rank 0 held at most."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"model": str(model), "tokens": TOKENS, "bucket": BUCKET, "ranks": ranks, "port": port, **case}
    command = [sys.executable, "-W", "ignore", "-m", "tests.allocations"]
    started = [
        subprocess.Popen([*command, json.dumps({**shared, "rank": rank})], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    try:
        said = [one.communicate(timeout=SECONDS)[0] for one in started]
    finally:
        for one in started:
            one.kill()
    most: int = json.loads(said[0].strip().splitlines()[-1])["most"]
    return most


def counted(model: Path, case: dict[str, Any], ranks: int) -> int:
    """What the budget says of the same engine."""
    training = Training(
        dtype=case["dtype"],
        checkpointing=case["checkpointing"],
        tokens=TOKENS,
        logit_chunk=CHUNK,
        entropy_gradient=False,
        adapter=AdapterSettings(),
    )
    tree = {
        "model": {"path": str(model), "dtype": case["dtype"], "checkpointing": case["checkpointing"]},
        "data": {"path": "x"},
        "learner": {
            "zero_stage": case["stage"],
            "micro_batch_tokens": TOKENS,
            "logit_chunk": CHUNK,
            "drift": False,
        },
        "cluster": {"learner_ranks": ranks},
        "rollout": {"groups_per_step": 8},
    }
    device = Device(on_gpu=False, size=0, sequence_tokens=128)
    sizes = sizes_of(AutoConfig.from_pretrained(model), training)
    found = learner_budget(config_of(tree).on_device(False), sizes, device)
    return max(found.held(During.PASSES), found.held(During.STEP))


@pytest.mark.parametrize(
    ("dtype", "stage", "checkpointing", "ranks"),
    [
        ("float32", 0, False, 1),
        ("bfloat16", 1, True, 1),
        ("bfloat16", 2, True, 1),
        ("bfloat16", 2, False, 2),
        ("bfloat16", 3, True, 2),
    ],
)
def test_what_is_counted_is_what_an_engine_allocates(
    model: Path, dtype: str, stage: int, checkpointing: bool, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "REDUCE_BUCKET", BUCKET)  # as the measured engine has it
    case = {"dtype": dtype, "stage": stage, "checkpointing": checkpointing}
    tolerance = WHERE_RANKS_MEET if ranks > 1 else TOLERANCE
    assert counted(model, case, ranks) == pytest.approx(measured(model, case, ranks), rel=tolerance)
