"""Reward models and process reward models, trained by the same engine as policies."""
