"""An agent that somebody has already: it asks a model by the `openai` client, and runs the tool itself."""

import json

from openai import AsyncOpenAI

TOOL = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Multiplies.",
        "parameters": {
            "type": "object",
            "properties": {"product": {"type": "string", "description": "such as 12*34"}},
            "required": ["product"],
        },
    },
}


async def agent(client, question):
    messages = [{"role": "user", "content": question}]
    for _ in range(3):
        answer = await client.chat.completions.create(model="policy", messages=messages, tools=[TOOL])
        said = answer.choices[0].message
        if not said.tool_calls:
            return said.content
        messages.append(said.model_dump(exclude_none=True))
        for call in said.tool_calls:
            left, _, right = json.loads(call.function.arguments).get("product", "").partition("*")
            result = str(int(left) * int(right)) if left.isdigit() and right.isdigit() else "Error"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return ""


async def play(task, talk):
    async with AsyncOpenAI(base_url=talk.url, api_key="-") as client:
        return await agent(client, task.question) == task.reference
