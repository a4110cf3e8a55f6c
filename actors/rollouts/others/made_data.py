"""Data and reward of libraries that make questions and grade the answers: reasoning-gym, and what is shaped so.

A row of the data holds a question and, as its reference, the library's whole entry, which grading needs.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.rollouts.others.steps import spoken

Entry = Mapping[str, Any]  # with question and answer
TUPLE, ITEMS = "<tuple>", "<items>"  # the only key of an object that stands for what JSON has not
ANSWER = re.compile("<answer>(.*?)</answer>", re.S)


class MadeData:
    """Sets of questions that are made: rows of a file, and a reward.

    Example: ``questions = MadeData(reasoning_gym.create_dataset, {"chain_sum": {"max_terms": 3}})``
    """

    def __init__(
        self,
        make: Callable[..., Any],
        sets: Mapping[str, Mapping[str, Any]],
        *,
        answer: Callable[[str], str] | None = None,
    ) -> None:
        """
        Args:
            make: gives the set of a name, with `size`, `seed` and what else it is told: a sequence of entries with
                `question` and `answer`, which has `score_answer(answer, entry)`, a number from 0 to 1.
            sets: what each is told, by its name; all make the same number of questions.
            answer: finds the answer in a response; else it is what stands in the last <answer> tags, or where there
                are none, all of it behind `</think>`.
        """
        self._make, self._sets, self._answer = make, dict(sets), answer or answered
        self._graders: dict[str, Callable[[str, Entry], float]] = {}

    def write(self, file: str | Path, rows: int, seed: int = 0) -> int:
        """Writes questions, of all sets in turn; says how many.

        Args:
            file: JSON lines with `prompt` and `answer`; written anew.
            rows: how many are made. One whose own answer does not get 1 is left out.
            seed: of the first set; the next ones have those that follow.

        Raises:
            ValueError: an entry has no question or no answer.
        """
        count = 0
        with open(file, "w", encoding="utf-8") as lines:
            for name, entry in self._entries(rows, seed):
                reference = json.dumps({"set": name, "entry": as_json(entry)}, ensure_ascii=False, default=str)
                if isinstance(entry["answer"], str) and not self._grades_its_own(name, reference):
                    continue
                lines.write(json.dumps({"prompt": entry["question"], "answer": reference}, ensure_ascii=False) + "\n")
                count += 1
        return count

    def reward(self, response: str, reference: str, prompt: str) -> float:
        """The reward `own` of a file that says `reward = questions.reward`: from 0 to 1, what `score_answer` says.

        Where that raises something, and does not for the entry's own answer, it is the response that it cannot read: 0.
        """
        row = json.loads(reference)
        name, entry = row["set"], from_json(row["entry"])
        try:
            return self._score(name, self._answer(response), entry)
        except Exception:  # a library raises what it likes
            self._score(name, entry["answer"] if isinstance(entry["answer"], str) else "", entry)
            return 0.0

    def _entries(self, rows: int, seed: int) -> Iterator[tuple[str, Entry]]:
        size = -(-rows // len(self._sets))
        sets = {name: self._made(name, size=size, seed=seed + place) for place, name in enumerate(self._sets)}
        for number in range(rows):
            name = list(sets)[number % len(sets)]
            entry = sets[name][number // len(sets)]
            if not isinstance(entry, Mapping) or not isinstance(entry.get("question"), str) or "answer" not in entry:
                raise ValueError(f"set {name!r} gave {entry!r:.500}: expected an entry with question and answer")
            yield name, entry

    def _grades_its_own(self, name: str, reference: str) -> bool:
        entry = from_json(json.loads(reference)["entry"])
        return self._score(name, entry["answer"], entry) >= 1

    def _score(self, name: str, answer: str, entry: Entry) -> float:
        if name not in self._graders:
            self._graders[name] = self._made(name).score_answer
        return float(self._graders[name](answer, entry))

    def _made(self, name: str, **more: object) -> Any:
        return self._make(name, **{**self._sets.get(name, {}), **more})


def answered(response: str) -> str:
    """What stands in the last <answer> tags; without any, what is said behind the thoughts."""
    said = spoken(response)
    found = ANSWER.findall(said)
    return (found[-1] if found else said).strip()


def as_json(value: Any) -> Any:
    """A value with objects of JSON in the place of tuples, and of dictionaries whose keys are no texts."""
    if isinstance(value, tuple):
        return {TUPLE: [as_json(each) for each in value]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: as_json(each) for key, each in value.items()}
        return {ITEMS: [[as_json(key), as_json(each)] for key, each in value.items()]}
    return [as_json(each) for each in value] if isinstance(value, list) else value


def from_json(value: Any) -> Any:
    """The value that was made such objects of."""
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {TUPLE}:
        return tuple(from_json(value[TUPLE]))
    if value.keys() == {ITEMS}:
        return {from_json(key): from_json(each) for key, each in value[ITEMS]}
    return {key: from_json(each) for key, each in value.items()}
