"""RFTT's functional tokens, and what a search's tree becomes in them.

<next>5+7+0=11     a digit sum
<verify>no         whether the line before it is right: ok or no
<refine>5+7+0=12   the line before it, anew
<output>42         the result
"""

NEXT, VERIFY, REFINE, OUTPUT = "<next>", "<verify>", "<refine>", "<output>"
RIGHT, WRONG = "ok", "no"


def is_right(text, answer):
    """Whether a response has this result."""
    return text.rpartition(OUTPUT)[2] == answer


def path_text(steps, slips):
    """A right path in which each digit sum is verified, as a text to imitate.

    Args:
        steps: the texts of the path, each with its line feed but the last.
        slips: place of a step -> a wrong step that the tree has in its place: it is said first, verified, and refined.
    """
    said = ""
    for place, step in enumerate(steps):
        if not step.startswith(NEXT):
            said += step
            continue
        if place in slips:
            said += f"{slips[place]}{VERIFY}{WRONG}\n"
            step = REFINE + step.removeprefix(NEXT)
        said += f"{step}{VERIFY}{RIGHT}\n"
    return said


def slips_beside(path):
    """Of the steps of a right path those beside which the tree has one from where nothing right was found: place -> its
    text.

    Args:
        path: nodes of a tree.
    """
    found = {}
    for place, node in enumerate(path):
        others = [each.text for each in node.parent.children if each.hard == 0.0 and each.text != node.text]
        if wrong := [text for text in others if text.startswith(NEXT) and text.endswith("\n")]:
            found[place] = wrong[0]
    return found
