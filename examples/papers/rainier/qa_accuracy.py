"""Whether the frozen QA model is right, given what the policy says: what Rainier is evaluated by."""

from rainier_reward import asked, margin


def reward(response: str, reference: str, prompt: str) -> bool:
    """True where the right answer has the largest logit."""
    return margin(asked(prompt), reference, response.strip()) > 0
