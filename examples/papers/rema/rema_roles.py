"""ReMA: one seat thinks about how to go about a question, another reasons, in turns; both share what the end is worth.

meta      is shown "ba 3 2" and says which operation "ba" asks for; it is shown the answer, and says "ok" or "no"
reasoner  is shown "+ 3 2" and says 5; where it is told "no" it answers once more
"""

ANSWERED = 0.25  # what goes from the first role to the second where the first writes the answer itself
ROUNDS = 2  # answers of the reasoner


def shares(right: bool, answered: bool) -> dict[str, float]:
    """What each role gets: 1 where the last answer is right, else 0."""
    moved = ANSWERED * answered
    return {"meta": right - moved, "reasoner": right + moved}


async def dialogue(task, talk, trained=("meta", "reasoner")):
    meta, reasoner = (talk.seat(name, trained=name in trained) for name in ("meta", "reasoner"))
    plan = (await meta(task.question)).text
    said = f"{plan} {task.question.partition(' ')[2]}"
    for _ in range(ROUNDS):
        answer = (await reasoner(said)).text
        said = (await meta(answer)).text
        if said != "no":
            break
    scores = shares(answer == task.reference, plan.isdigit())
    return {name: scores[name] for name in trained}


async def play(task, talk):
    return await dialogue(task, talk)
