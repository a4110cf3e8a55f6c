#!/bin/sh
# All of it, from the root of the repository; see README.md. Further words are settings of both trainings (run.seed=1).
set -e
python examples/papers/rewardmath/make_data.py
winnow train examples/papers/rewardmath/policy.toml "$@"
winnow reward-model examples/papers/rewardmath/reward_model.toml "$@"
winnow eval --reward-model runs/rewardmath/checkpoints/step-150 runs/rewardmath-pairs.jsonl data.rows=-200:
winnow eval runs/rewardmath-policy --samples 8 eval.prompts=100
winnow eval --reward-model runs/rewardmath/checkpoints/step-150 runs/rewardmath-policy/evaluations/step-1
