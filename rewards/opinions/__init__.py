"""Rewards that ask another model."""
