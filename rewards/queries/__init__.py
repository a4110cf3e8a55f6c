"""The reward that runs database queries."""
