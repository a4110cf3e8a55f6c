// Small bars, one for each response of a group: as high as its score is, coloured by its outcome.

import { decimal, el } from "./dom.js";

export function level(score, run) {
  if (score === null) return "none";
  const low = Math.min(run.low ?? 0, 0);
  const high = Math.max(run.high ?? 1, low + 1e-9);
  return String(Math.round((4 * (score - low)) / (high - low)));
}

export function bars(responses, run, target = null, here = null) {
  const made = [];
  let siblings = null;
  for (const one of responses) {
    if (siblings !== null && one.siblings !== siblings) made.push(el("i", { class: "between" }));
    siblings = one.siblings;
    const about =
      `response ${one.number}: ${one.outcome}` + (one.score === null ? "" : `, score ${decimal(one.score)}`);
    const name =
      `bar ${known(one.outcome)} h${level(one.score, run)}` +
      (one.fits === false ? " other" : "") +
      (one.number === here ? " here" : "");
    made.push(
      target
        ? el("a", { class: name, href: target(one), title: about, "aria-label": about })
        : el("i", { class: name, title: about }),
    );
  }
  return el(
    "span",
    { class: "bars", role: target ? null : "img", "aria-label": target ? null : spoken(responses) },
    ...made,
  );
}

export const known = (outcome) =>
  ["correct", "wrong", "unparsable", "late", "timeout", "error"].includes(outcome) ? outcome : "error";

function spoken(responses) {
  const right = responses.filter((one) => one.outcome === "correct").length;
  return `${right} of ${responses.length} correct`;
}
