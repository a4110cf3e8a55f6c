"""A model beside the policy that never changes: how it is taught once, and how rewards ask it. It says one word."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Frozen:
    """A causal model of a Hugging Face folder, on the CPU."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)  # it runs beside the other processes of a run
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def logits(self, text: str, words: Sequence[str]) -> list[float]:
        """The logits of words that are one token each, behind a text."""
        ids = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            last = self._model(input_ids=ids).logits[0, -1]
        return [float(last[self._tokenizer.convert_tokens_to_ids(word)]) for word in words]

    def embedding(self, text: str) -> list[float]:
        """The last layer's state behind a text, what the word is read from."""
        ids = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return self._model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1].tolist()


@cache
def frozen(folder: Path) -> Frozen:
    """The model of a folder, loaded once in a process."""
    return Frozen(folder)


def teach(folder: Path, examples: Sequence[tuple[str, str]], updates: int, lr: float = 3e-3) -> None:
    """Teaches the model of a folder to say words behind texts, writes it there again, and prints how often the last
    words were right.

    Args:
        folder: in the Hugging Face layout.
        examples: (text, word); a word is one token.
        updates: of 32 examples each.
        lr: of the first update; it falls to a twentieth.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, updates)
    draw = random.Random(0)
    torch.set_num_threads(1)
    right: list[bool] = []
    for _ in range(updates):
        texts, words = zip(*draw.choices(examples, k=32), strict=True)
        batch = tokenizer(
            list(texts), return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
        )
        last = batch["attention_mask"].sum(1) - 1
        logits = model(**batch).logits[torch.arange(32), last]
        wanted = torch.tensor(tokenizer.convert_tokens_to_ids(list(words)))
        right += (logits.argmax(-1) == wanted).tolist()
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    last_right = right[-20 * 32 :]
    print(f"{folder.name}: right on {sum(last_right) / len(last_right):.0%} of the last {len(last_right)} words")
