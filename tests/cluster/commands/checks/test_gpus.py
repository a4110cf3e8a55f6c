"""What is read of nvidia-smi, whatever it prints."""

from cluster.commands.checks.gpus import MIB, Gpu, gpus_in
from tests.tables import each

TWO = """\
0, NVIDIA H100 80GB HBM3, 570.124.06, 81559, 0, 9.0
1, NVIDIA H100 80GB HBM3, 570.124.06, 81559, 30210, 9.0
"""
H100 = "NVIDIA H100 80GB HBM3"


def test_gpus_are_read_from_what_nvidia_smi_prints() -> None:
    found = gpus_in(TWO)
    assert found.problem == ""
    assert found.found == (
        Gpu(index=0, name=H100, driver="570.124.06", memory=81559 * MIB, used=0, capability="9.0"),
        Gpu(index=1, name=H100, driver="570.124.06", memory=81559 * MIB, used=30210 * MIB, capability="9.0"),
    )


def test_a_gpu_without_memory_of_its_own_has_memory_that_is_unknown() -> None:
    (gpu,) = gpus_in("0, NVIDIA GB10, 580.95.05, [N/A], [N/A], 12.1\n").found
    assert (gpu.memory, gpu.used, gpu.capability) == (0, 0, "12.1")
    (old,) = gpus_in("0, Tesla V100-SXM2-16GB, 450.51.06, 16160, 3, [Not Supported]\n").found
    assert (old.memory, old.capability) == (16160 * MIB, "")


@each(
    ("text", "status", "said"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9, "has failed because"),
        ("No devices were found\n", 6, "No devices were found"),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18, "version mismatch"),
        (TWO + "Unable to determine the device handle for GPU2: GPU is lost.\n", 15, "GPU is lost"),
        ("", 1, "exit status is 1"),
    ],
)
def test_what_else_nvidia_smi_prints_is_a_problem_in_its_own_words(text: str, status: int, said: str) -> None:
    assert said in gpus_in(text, status).problem


def test_gpus_beside_a_lost_one_are_still_found() -> None:
    assert len(gpus_in(TWO + "Unable to determine the device handle for GPU2: GPU is lost.\n", 15).found) == 2
