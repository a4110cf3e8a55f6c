"""The same model without what the policy says: what there is to gain."""

from rainier_reward import asked, margin


def reward(response: str, reference: str, prompt: str) -> bool:
    """True where the model needs no knowledge."""
    return margin(asked(prompt), reference) > 0
