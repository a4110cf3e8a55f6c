"""A tool: what the policy calls runs apart from it, and what the tool gives is text that the policy reads."""


def calculate(product: str) -> str:
    """Multiplies.

    Args:
        product: such as 12*34
    """
    left, right = product.split("*")
    return str(int(left) * int(right))


async def play(task, talk):
    talk.tools([calculate])
    turn = await talk.use(task, rounds=2)
    return turn.text == task.reference
