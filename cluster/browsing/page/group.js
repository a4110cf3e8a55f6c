// One group: its prompt, its responses side by side with verdict and why, and where else its prompt came.

import { ask } from "./api.js";
import { bars, known } from "./bars.js";
import { count, decimal, el, signed } from "./dom.js";
import { fate } from "./list.js";
import { away, get, go, link } from "./state.js";
import { shown } from "./text.js";

const KEPT = 24;
const groups = new Map(); // groups that were fetched, the last of them; what is stored of a group does not change

const FATES = {
  all_correct: "all responses were correct, so none tells the policy anything",
  all_wrong: "all responses were wrong",
  out_of_band: "too few or too many responses were correct",
  failed: "fewer than two responses have a verdict",
  "never trained": "it was accepted, and the run ended before it was trained on",
};
const OUTCOMES = { correct: "✓", wrong: "✗", unparsable: "?", late: "◷", timeout: "◷", error: "!" };

export async function groupOf(id) {
  if (!groups.has(id)) {
    groups.set(id, await ask(`api/groups/${encodeURIComponent(id)}`));
    if (groups.size > KEPT) groups.delete(groups.keys().next().value);
  }
  return groups.get(id);
}

export const forget = () => groups.clear();

export function whyNot(reason) {
  return reason && FATES[reason]
    ? `not trained on: ${FATES[reason]} (${reason})`
    : reason
      ? `not trained on: ${reason}`
      : "trained on";
}

export function drawGroup(group, run) {
  const sets = setsOf(group.responses);
  return [
    head(group, run),
    promptBox(group),
    visits(group, run),
    el("p", { class: "quiet small" }, group.advantages),
    ...sets.map((set) => section(set, group, run, sets.length > 1)),
  ];
}

function setsOf(responses) {
  const sets = new Map();
  for (const one of responses) sets.set(one.siblings, [...(sets.get(one.siblings) ?? []), one]);
  return [...sets.entries()].map(([name, members]) => ({ name, members }));
}

function head(group, run) {
  const reasons = [...new Set(group.responses.map((one) => one.rejected))];
  return el(
    "div",
    { class: "head" },
    el("a", { class: "back", href: link(away()), "aria-label": "back to the list" }, "‹"),
    el("h1", {}, `Group ${group.group}`),
    el("span", { class: "quiet" }, `step ${group.step}`),
    fate(reasons),
    el("span", { class: "gap" }),
    bars(group.responses, run, (one) => link({ ...away(), group: group.group, response: one.number })),
    reasons.length === 1 && reasons[0] ? el("p", { class: "quiet full" }, shown(whyNot(reasons[0]))) : null,
  );
}

export function promptBox(group) {
  const question = group.question && group.question !== group.prompt ? group.question : "";
  return el(
    "div",
    { class: "prompt" },
    folded(question || group.prompt, 700),
    question
      ? el(
          "details",
          {},
          el("summary", { class: "quiet" }, `as the policy sees it (${count(group.prompt_tokens, "token")})`),
          el("pre", { class: "said" }, shown(group.prompt, get("q"))),
        )
      : null,
    el(
      "dl",
      {},
      ...pair("reference", folded(group.reference, 300)),
      ...pair("reward", shown(group.reward)),
      ...pair(
        "prompt",
        el("a", { href: link({ ...away(), group: group.group, prompt: group.prompt_id }) }, shown(group.prompt_id)),
      ),
      ...(group.greedy === null ? [] : pair("greedy score", decimal(group.greedy))),
    ),
  );
}

const pair = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

export function folded(text, most) {
  const box = el("pre", { class: "said" });
  if (text.length <= most * 1.3) {
    box.append(shown(text, get("q")));
    return box;
  }
  const whole = () => {
    box.replaceChildren(shown(text.slice(0, 100000), get("q")));
    if (text.length > 100000)
      box.append(el("span", { class: "quiet" }, ` … and ${count(text.length - 100000, "more character")}`));
  };
  box.append(
    shown(text.slice(0, most), get("q")),
    el(
      "button",
      {
        class: "plain",
        onclick: (event) => {
          event.preventDefault();
          event.stopPropagation();
          whole();
        },
      },
      `… all ${count(text.length, "character")}`,
    ),
  );
  return box;
}

function visits(group, run) {
  if (group.visits.length < 2) return null;
  const here = group.visits.findIndex((one) => one.group === group.group);
  const near = group.visits.slice(Math.max(0, here - 6), Math.max(0, here - 6) + 13);
  return el(
    "div",
    { class: "visits" },
    el("span", { class: "quiet" }, `this prompt, ${count(group.all_visits, "group")}, by step`),
    ...near.map((one) =>
      el(
        "a",
        {
          href: link({ ...away(), group: one.group }),
          class: one.group === group.group ? "visit here" : "visit",
          title: `group ${one.group}`,
        },
        el("span", { class: "quiet" }, String(one.step)),
        bars(one.responses.slice(0, 16), run),
      ),
    ),
    el("a", { class: "button", href: link({ ...away(), group: group.group, view: "prompt" }) }, "side by side"),
  );
}

function section(set, group, run, several) {
  const reason = set.members[0].rejected;
  return el(
    "section",
    {},
    several
      ? el(
          "h2",
          {},
          shown(set.name),
          el(
            "span",
            { class: "quiet" },
            ` ${count(set.members.length, "response")}, compared with each other; `,
            shown(whyNot(reason)),
          ),
        )
      : null,
    el("div", { class: "cards" }, ...set.members.map((one) => card(one, group))),
  );
}

export function card(one, group) {
  const place = { ...away(), group: group.group, response: one.number };
  const open = (event) => {
    if (!event.target.closest("a, button, summary") && !String(getSelection())) go(place);
  };
  return el(
    "article",
    { class: "card " + known(one.outcome), "data-number": one.number, onclick: open },
    el("a", { class: "cover", href: link(place), "aria-label": `response ${one.number}` }),
    el(
      "header",
      { class: "line wrap" },
      el("b", {}, `${one.number}`),
      verdict(one),
      adv(one),
      el("span", { class: "line facts" }, ...facts(one)),
    ),
    one.why ? el("p", { class: "why" }, shown(one.why, "")) : null,
    parts(one),
    cut(one),
  );
}

export function verdict(one) {
  return el(
    "span",
    { class: "verdict " + known(one.outcome) },
    OUTCOMES[known(one.outcome)] + " ",
    shown(one.outcome),
    one.score === null ? " · no score" : ` · ${decimal(one.score)}`,
  );
}

export function adv(one) {
  if (one.advantage === null) return null;
  const name = one.advantage > 0 ? "adv up" : one.advantage < 0 ? "adv down" : "adv";
  return el("span", { class: name, title: "advantage" }, "adv " + signed(one.advantage));
}

export function facts(one) {
  const found = [];
  const add = (text, title, name = "quiet") => found.push(el("span", { class: name, title }, text));
  if (one.seat !== "policy" || one.siblings !== one.seat) add(shown(one.seat), "seat", "tag");
  if (one.turns > 1) add(count(one.turns, "turn"), "of the policy");
  add(count(one.tokens, "token"), "sampled");
  if (one.finish !== "stop") add(one.finish === "length" ? "cut" : one.finish, "why it ended", "tag");
  if (one.versions.length)
    add("v" + [...new Set(one.versions)].join("–"), "versions of the weights that chose its tokens");
  return found;
}

export function parts(one) {
  const named = Object.entries(one.parts);
  if (!named.length) return null;
  return el(
    "p",
    { class: "parts" },
    ...named.map(([name, value]) => el("span", { class: "part" }, shown(name), " ", el("b", {}, decimal(value)))),
  );
}

function cut(one) {
  const box = el("pre", { class: "said clamp" }, shown(one.text.slice(0, 1500), get("q")));
  if (!one.characters) box.append(el("span", { class: "quiet" }, "(nothing)"));
  if (one.characters > 1500) box.append(el("span", { class: "quiet" }, ` … ${count(one.characters, "character")}`));
  return box;
}
