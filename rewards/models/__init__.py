"""Rewards by other models: reward models, process reward models, language models as judges."""
