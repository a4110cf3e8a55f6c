"""`winnow reward-model`: trains reward models and process reward models with the learner, as runs of their own."""
