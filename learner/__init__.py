"""Everything that turns groups into new weights: algorithms, batching, ZeRO engine, warm-up, checkpoints."""
