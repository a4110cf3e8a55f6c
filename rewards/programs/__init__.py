"""The reward that runs programs, and the sandbox that it runs them in."""
