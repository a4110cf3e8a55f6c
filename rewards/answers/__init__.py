"""Rewards that compare the final answer of a response with a reference: text, letters, numbers, mathematics."""
