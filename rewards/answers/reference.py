"""References of final answers in the forms that data sets store."""

import json
from collections.abc import Sequence


def several(answers: Sequence[str]) -> str:
    """The reference that several answers are, any of which is right: JSON with each on a line of its own. A list that
    a text of the data holds is not written so, and stays that text."""
    return json.dumps(list(answers), ensure_ascii=False, indent=0)


def answers_of(reference: str) -> tuple[str, ...]:
    """The right answers: those that `several` made a reference of; of a list of one text, written as JSON, that text;
    anything else is one answer as it is.

    Example: ``answers_of('["34"]') == ("34",)``
    """
    text = reference.strip()
    if not (text.startswith(('["', '[\n"')) and text.endswith(('"]', '"\n]'))):
        return (reference,)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return (reference,)
    texts = tuple(one for one in found if isinstance(one, str))
    is_list = len(texts) == len(found) and (len(found) == 1 or text == several(texts))
    return texts if is_list else (reference,)
