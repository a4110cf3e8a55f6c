"""Whether a comment has the words of the reference: what the semantic reward does not ask for."""


def reward(response: str, reference: str, prompt: str) -> bool:
    """True where the texts are equal."""
    return response.strip() == reference
