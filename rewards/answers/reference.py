"""References of final answers in the forms that data sets store."""

import json


def the_answer(reference: str) -> str:
    """The answer itself: of a list of one text, written as JSON, that text; anything else is taken as it is.

    Example: ``the_answer('["34"]') == "34"``
    """
    text = reference.strip()
    if not (text.startswith('["') and text.endswith('"]')):
        return reference
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return reference
    return found[0] if len(found) == 1 and isinstance(found[0], str) else reference
