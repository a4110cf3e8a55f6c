// What the colour of a token says: its log-probability, its version, its advantage, or whether it was trained on.

import { el, signed } from "./dom.js";
import { whyNot } from "./group.js";
import { get, go } from "./state.js";
import { shown } from "./text.js";

export const SHADES = {
  logprob: "log-probability",
  version: "version",
  advantage: "advantage",
  mask: "loss mask",
  plain: "none",
};
const STEPS = [0.05, 0.2, 0.5, 1, 2, 4]; // −log p at which the shade becomes deeper
const HUES = 6;

export function shades() {
  const chosen = get("shade") || "logprob";
  return el(
    "div",
    { class: "chips", role: "group", "aria-label": "shade by" },
    ...Object.entries(SHADES).map(([name, title], at) =>
      el(
        "button",
        {
          class: "chip",
          "aria-pressed": String(name === chosen),
          title: `key ${at + 1}`,
          onclick: () => go({ shade: name === "logprob" ? "" : name }, { replace: true }),
        },
        title,
      ),
    ),
  );
}

// The class of each token for the chosen shade, and what the legend says.
export function shade(view) {
  const { data, one } = view;
  if (!data) return;
  const kind = get("shade") || "logprob";
  const versions = [...new Set(data.versions.filter((version, i) => data.sampled[i] && version >= 0))].sort(
    (a, b) => a - b,
  );
  const largest = Math.max(...view.group.responses.map((each) => Math.abs(each.advantage ?? 0)), 1e-12);
  const classOf = {
    logprob: (i) => (data.logprobs[i] === null ? "" : `s${STEPS.filter((step) => -data.logprobs[i] >= step).length}`),
    version: (i) => (data.versions[i] < 0 ? "" : `v${versions.indexOf(data.versions[i]) % HUES}`),
    advantage: () =>
      one.advantage === null || one.rejected
        ? ""
        : one.advantage === 0
          ? ""
          : `${one.advantage > 0 ? "up" : "down"}${Math.max(1, Math.round((4 * Math.abs(one.advantage)) / largest))}`,
    mask: () => (isTrained(one) ? "k1" : "k0"),
    plain: () => "",
  }[kind];
  view.spans.forEach((token, i) => {
    const rewarded = data.rewards.length && data.rewards[i] !== null ? " rewarded" : "";
    token.className = "t " + (data.sampled[i] ? classOf(i) : "") + rewarded;
  });
  view.legend?.replaceChildren(...legend(view, kind, versions));
}

export const isTrained = (one) => !one.rejected && one.score !== null;

function legend(view, kind, versions) {
  const { data, one } = view;
  const key = (name, text) => el("span", { class: "key" }, el("i", { class: name }), text);
  if (kind === "logprob") {
    if (!data.logprobs.some((value) => value !== null))
      return [
        el(
          "span",
          { class: "quiet" },
          "The sampler's log-probabilities are not known: these responses were not sampled by this run.",
        ),
      ];
    const ends = STEPS.map((step) => Math.round(100 * Math.exp(-step)));
    return [
      el("span", { class: "quiet" }, "probability of the token"),
      ...["s0", "s1", "s2", "s3", "s4", "s5", "s6"].map((name, at) =>
        key(name, at === 0 ? `> ${ends[0]} %` : at === 6 ? `≤ ${ends[5]} %` : `≤ ${ends[at - 1]} %`),
      ),
    ];
  }
  if (kind === "version") {
    if (!versions.length)
      return [el("span", { class: "quiet" }, "Versions are not known: these responses were not sampled by this run.")];
    return [
      el("span", { class: "quiet" }, "weights that chose the token"),
      ...versions
        .slice(0, 24)
        .map((version, at) =>
          key(
            `v${at % HUES}`,
            `version ${version} (${data.versions.filter((each, i) => each === version && data.sampled[i]).length})`,
          ),
        ),
    ];
  }
  if (kind === "advantage") {
    if (one.advantage === null)
      return [
        el(
          "span",
          { class: "quiet" },
          shown(isTrained(one) ? view.group.advantages : "It was not trained on, so it has no advantage."),
        ),
      ];
    return [
      el(
        "span",
        { class: "quiet" },
        `every token of the response has ${signed(one.advantage)}. ${view.group.advantages}`,
      ),
    ];
  }
  if (kind === "mask") {
    const why = one.rejected ? whyNot(one.rejected) : one.score === null ? "not trained on: it has no score" : "";
    return isTrained(one)
      ? [key("k1", "sampled, and trained on"), key("", "said to the policy, not trained on")]
      : [key("k0", "sampled, and " + why), key("", "said to the policy")];
  }
  return [];
}
