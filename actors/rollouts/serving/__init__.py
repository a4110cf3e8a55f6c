"""The OpenAI-compatible address of a seat: agents that somebody already has are trained as they are."""
