"""What vLLM calls winnow's parts in its own processes. Light, as actors read it."""

# back end of a run, a key of `learner.transfer.BACKENDS` -> the receiving side that the plugin registers in vLLM
RECEIVERS = {"gloo": "gloo", "nccl": "winnow-nccl", "ipc": "winnow-ipc"}
EXTENSION = "actors.transfer.worker.WeightsExtension"  # what vLLM's workers are given beside their own methods
