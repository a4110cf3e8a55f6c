// What different steps did to the same prompt: its groups one below the other, each with a few of its responses.

import { bars } from "./bars.js";
import { count, decimal, el } from "./dom.js";
import { card, folded, groupOf } from "./group.js";
import { fate } from "./list.js";
import { away, link } from "./state.js";

const AT_ONCE = 6; // groups that are fetched together
const SHOWN = 4; // responses of each

export function drawHistory(group, run) {
  const visits = group.visits;
  const box = el("div", {});
  let at = 0;
  const more = el("button", { class: "more", onclick: () => fetchMore() }, "further steps");
  const fetchMore = async () => {
    more.remove();
    for (const visit of visits.slice(at, at + AT_ONCE)) box.append(await row(visit, run));
    at += AT_ONCE;
    if (at < visits.length) box.append(more);
  };
  fetchMore();
  return [
    el(
      "div",
      { class: "head" },
      el("a", { class: "back", href: link({ view: "" }), "aria-label": "back to the group" }, "‹"),
      el("h1", {}, "One prompt, step by step"),
      el(
        "span",
        { class: "quiet" },
        count(visits.length, "group") + (group.all_visits > visits.length ? ` of ${group.all_visits}` : ""),
        `, steps ${visits[0].step} to ${visits.at(-1).step}`,
      ),
    ),
    el("div", { class: "prompt" }, folded(group.question || group.prompt, 700)),
    el("p", { class: "quiet small" }, "share of correct responses, by step"),
    course(visits),
    box,
  ];
}

function course(visits) {
  const shares = visits.map(
    (one) => one.responses.filter((each) => each.outcome === "correct").length / Math.max(1, one.responses.length),
  );
  return el(
    "div",
    {
      class: "course",
      role: "img",
      "aria-label":
        "share of correct responses: " +
        shares.map((share, at) => `step ${visits[at].step} ${Math.round(100 * share)} %`).join(", "),
    },
    ...visits.map((one, at) =>
      el(
        "a",
        {
          href: link({ ...away(), group: one.group }),
          title: `step ${one.step}: ${Math.round(100 * shares[at])} % correct`,
        },
        el("span", { class: "track" }, el("i", { class: `fill f${Math.round(10 * shares[at])}` })),
        el("span", { class: "quiet" }, String(one.step)),
      ),
    ),
  );
}

async function row(visit, run) {
  const section = el("section", { class: "visit-row" });
  try {
    const group = await groupOf(String(visit.group));
    const lengths = group.responses.map((one) => one.tokens);
    const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
    const shown = group.responses.slice(0, SHOWN);
    section.append(
      el(
        "h2",
        {},
        el("a", { href: link({ ...away(), group: group.group }) }, `step ${group.step}`),
        " ",
        fate([...new Set(group.responses.map((one) => one.rejected))]),
        " ",
        bars(group.responses, run),
        el("span", { class: "quiet" }, ` group ${group.group}, ${decimal(mean, 1)} ${mean === 1 ? "token" : "tokens"} in the mean`),
      ),
      el("div", { class: "cards" }, ...shown.map((one) => card(one, group))),
    );
    const left = group.responses.length - shown.length;
    if (left > 0)
      section.append(
        el(
          "p",
          { class: "small" },
          el("a", { href: link({ ...away(), group: group.group }) }, `and ${count(left, "more response")}`),
        ),
      );
  } catch (failure) {
    section.append(el("p", { class: "problem" }, `step ${visit.step}: ${failure.message}`));
  }
  return section;
}
