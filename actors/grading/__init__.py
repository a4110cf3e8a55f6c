"""Who grades responses in a run: verifier actors and their queue, the judge actor, labels of steps."""
