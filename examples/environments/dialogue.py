"""Two roles: one sees which card is meant and may say a single word, the other has to find the card."""


async def play(task, talk):
    describer, finder = talk.seat("describer"), talk.seat("finder")
    hint = await describer(task)  # such as "r5 b5 g5 r7 : r7"
    cards, meant = task.question.split(" : ")
    found = await finder(f"{cards} ? {hint.text}")
    right = len(hint.text) == 1 and found.text == meant
    return {"describer": right, "finder": right}
