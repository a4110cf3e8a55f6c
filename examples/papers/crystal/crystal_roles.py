"""Crystal: one model says what it knows, and answers with it. What it says is worth how far it changes its own answer.

A row's answer is "train red"; the held-out rows say "with red" or "without red" and score only the answer that is given
with or without what was said before.
"""


def introspection(known: float, unknown: float) -> float:
    """What knowledge is worth: the share of right answers with it less the share without."""
    return known - unknown


async def play(task, talk):
    kind, colour = task.reference.split(" ")
    says = talk.seat("introspector", trained=kind == "train")
    knowledge = (await says(task.question)).text if kind != "without" else ""
    reasons = talk.seat("reasoner", trained=kind != "without")
    alone = talk.seat("alone", trained=kind == "without")
    known = (await reasons(f"{task.question}|{knowledge}")).text == colour if kind != "without" else False
    unknown = (await alone(f"{task.question}|")).text == colour if kind != "with" else False
    if kind == "train":
        return {"introspector": introspection(known, unknown), "reasoner": known}
    return {"reasoner": known} if kind == "with" else {"alone": unknown}
