"""Tools that a policy may call in an episode, and how its calls are read."""
