"""An evaluation as a person reads it on a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.evaluating.figures import LOST
from cluster.reporting.words import aligned

Figures = Mapping[str, Any]
MOST_FLIPS = 5  # prompts that are named of each kind
NO_VERDICT = ("timeout", "error", LOST)  # outcomes that say nothing of a response


def result_lines(result: Figures) -> list[str]:
    """What an evaluation found, line by line."""
    samples = result["sampling"]["samples"]
    columns: dict[str, Callable[[Figures], str]] = {
        "prompts": _prompts,
        f"avg@{samples}": lambda each: _estimate(each.get("accuracy")),
        f"pass@{samples}": lambda each: _estimate(_at(each.get("pass_at", []), samples)),
        f"maj@{samples}": lambda each: _estimate(each.get("majority")),
        **{f"best@{samples} by {name}": _best(name, samples) for name in _models(result)},
        "truncated": lambda each: _share(each.get("truncated")),
        "tokens": lambda each: _number(each.get("tokens", {}).get("mean")),
        "no verdict": lambda each: str(_without(each)) if "outcomes" in each else "",
    }
    rows = [("", *columns)]
    rows += [(name, *(show(each) for show in columns.values())) for name, each in result["benchmarks"].items()]
    if result["mean"]:
        rows.append(("mean", *(show(result["mean"]) for show in columns.values())))
    lines = aligned(rows, numbers=True)
    lines.append("in brackets: 95 % of bootstrap resamples over prompts" + _missing(result))
    for name, each in result["benchmarks"].items():
        lines += _notes(name, each)
    return lines + (_against_lines(result["against"]) if result.get("against") else [])


def _prompts(each: Figures) -> str:
    if "prompts" not in each:
        return ""
    done, wanted = each["prompts"], each["prompts_wanted"]
    return str(done) if done == wanted else f"{done} of {wanted}"


def _models(result: Figures) -> list[str]:
    return list(dict.fromkeys(name for each in result["benchmarks"].values() for name in each["best_of"]))


def _best(name: str, samples: int) -> Callable[[Figures], str]:
    return lambda each: _estimate(_at(each.get("best_of", {}).get(name, []), samples))


def _at(curve: Sequence[Figures], k: int) -> Figures | None:
    return next((each for each in curve if each["k"] == k), None)


def _estimate(found: Figures | None) -> str:
    if found is None:
        return ""
    if found["low"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _without(each: Figures) -> int:
    return sum(each["outcomes"][outcome] for outcome in NO_VERDICT)


def _missing(result: Figures) -> str:
    """What an empty cell or a missing interval means."""
    each = result["benchmarks"].values()
    whys = dict.fromkeys(one["majority_missing"] for one in each if one["majority_missing"])
    notes = [f"; no majority: {why}" for why in whys]
    flat = any(one["accuracy"] and one["accuracy"]["low"] is None for one in each)
    return "".join(notes) + "; none where fewer than two prompts differ" * flat


def _notes(name: str, each: Figures) -> list[str]:
    lines = []
    if each["prompts_left_out"]:
        lines.append(f"{name}: {each['prompts_left_out']} prompts are too long for the model and were left out")
    if count := _without(each):
        low, high = each["accuracy_bounds"]
        lines.append(
            f"{name}: {count} responses without a verdict count neither as right nor as wrong; avg would be {low:.3f} "
            f"were all of them wrong, and {high:.3f} were they right"
        )
        lines += [f"  {one['count']} x {one['outcome']}: {one['why']}" for one in each["without_verdict"]]
    return lines


def _against_lines(against: Figures) -> list[str]:
    subject = against["subject"]
    step = f", step {subject['step']}" if subject["step"] is not None else ""
    lines = [f"against {subject['run'] or subject['model']}{step}:"]
    for name, each in against["benchmarks"].items():
        right, wrong = each["wrong_to_right"], each["right_to_wrong"]
        if not each["prompts"]:
            lines.append(f"  {name}: no prompt has a verdict in both")
            continue
        lines.append(
            f"  {name}: difference {_difference(each['difference'])} over {each['prompts']} prompts, {len(right)} from "
            f"wrong to right, {len(wrong)} from right to wrong"
            + f"; {each['prompts_unmatched']} prompts are not in it"
            * bool(each["prompts_unmatched"])
        )
        for what, turned in (("to right", right), ("to wrong", wrong)):
            lines += [f"    {what}: {_turned(one)}" for one in turned[:MOST_FLIPS]]
            lines += [f"    {what}: and {len(turned) - MOST_FLIPS} more"] * (len(turned) > MOST_FLIPS)
    if against["mean_difference"]:
        lines.append(f"  mean of the benchmarks: difference {_difference(against['mean_difference'])}")
    return lines


def _difference(found: Figures | None) -> str:
    if found is None:
        return "unknown"
    interval = "" if found["low"] is None else f" [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{found['value']:+.3f}{interval}"


def _turned(one: Figures) -> str:
    before, now = one["before"], one["now"]
    question = " ".join(one["prompt"].split())[:60]
    return f"{one['id']} {before[0]}/{before[1]} to {now[0]}/{now[1]} correct: {question}"
