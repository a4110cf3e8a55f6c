"""From a prompt to a graded group: the engine (vLLM), the generator actor around it, the rollout, environments."""
