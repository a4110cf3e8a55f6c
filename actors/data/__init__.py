"""What a run trains on: files, prompts, which of them are next, stored groups, the built-in world."""
