"""Environments whose agent is a program that knows nothing of winnow: it has OpenAI's client and an address."""

BEGIN = """
import asyncio, json, openai

async def play(task, talk):
    plain = openai.DefaultAsyncHttpxClient(verify=False)  # reads no certificates, which takes longer than most tests
    async with openai.AsyncOpenAI(base_url=talk.url, api_key="-", max_retries=0, http_client=plain) as client:
        async def ask(*messages, **more):
            told = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
            answer = await client.chat.completions.create(model="any", messages=told, **more)
            return answer.choices[0].message.model_dump()
"""


def agent(body: str) -> str:
    """An environment with this body, which has `client` and `ask(*messages)`: a text is a user's, and what it gives is
    the assistant's message, as OpenAI's client has it."""
    return BEGIN + "".join(f"        {line}\n" for line in body.strip().splitlines())
