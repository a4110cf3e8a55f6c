"""Two roles: one sees a thing and may say a single word of two letters, the other has to find the thing by the word."""


async def play(task, talk):
    describer, finder = talk.seat("describer"), talk.seat("finder")
    word = await describer(task)  # such as "moon"
    found = await finder(f"what is {word.text}")
    right = len(word.text) == 2 and found.text == task.reference
    return {"describer": right, "finder": right}
