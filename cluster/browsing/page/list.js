// The left side: what is searched for, and the groups that have it, a page at a time.

import { ask } from "./api.js";
import { byId, count, decimal, el } from "./dom.js";
import { bars } from "./bars.js";
import { all, away, cleared, filterCount, filters, get, go, link } from "./state.js";
import { shown } from "./text.js";

const WORDS = { outcome: "outcome", rejected: "fate", seat: "seat", finish: "ended" };
const RANGES = [
  ["step", "step", 1],
  ["score", "score", "any"],
  ["version", "version", 1],
  ["length", "tokens", 1],
];
const SORTS = {
  "newest-first": "newest step first",
  "oldest-first": "oldest step first",
  "longest-first": "longest response first",
  "shortest-first": "shortest response first",
  "mixed-first": "mixed scores first",
};
const PLACES = { both: "prompt or response", prompt: "prompt", response: "response" };

let rows = []; // the groups that are shown
let next = null; // where the following page begins
let first = 0; // where the first page that is shown begins
let asked = null; // the filters that they were asked for with
let changes = -1; // of the index, when they were asked for
let waiting = null; // ends an answer that nobody waits for any more
let drawn = ""; // which choices are drawn
let restsAt = 0; // where the list stands while nobody has scrolled it

export const groupIds = () => rows.map((row) => row.group);
export const shownChanges = () => changes;
export const isAtRest = () => Math.abs(byId("list").scrollTop - restsAt) < 40;

export function neighbour(step) {
  const at = rows.findIndex((row) => String(row.group) === get("group"));
  return rows[at < 0 ? 0 : at + step]?.group;
}

export const hitsOf = (group) =>
  (rows.find((row) => row.group === group)?.responses ?? []).filter((one) => one.fits).map((one) => one.number);

// `around`: whether the list begins with the page that holds the group of the URL.
export async function drawList(run, { again = false, around = false } = {}) {
  drawChoices(run);
  const wanted = filters().toString();
  if (wanted !== asked || again) {
    asked = wanted;
    await fetchPage(run, true, around);
  }
  showHere();
}

async function fetchPage(run, fresh, around = false) {
  waiting?.abort();
  waiting = new AbortController();
  const from = filters();
  if (!fresh) from.set("from", next);
  else if (around && get("group")) from.set("around", get("group"));
  byId("list").setAttribute("aria-busy", "true");
  try {
    const page = await ask("api/groups?" + from, waiting.signal);
    if (fresh) {
      rows = [];
      first = page.start;
      byId("list").replaceChildren();
      byId("list").scrollTop = restsAt = 0;
    }
    changes = page.changes;
    next = page.next;
    rows.push(...page.page);
    byId("found").replaceChildren(...summary(page, run));
    byId("list").querySelector(".more")?.remove();
    byId("list").append(...page.page.map((row) => item(row, run)), ...ending(run));
    showHere();
  } catch (failure) {
    if (failure.name === "AbortError") return;
    byId("list").replaceChildren(el("p", { class: "problem" }, failure.message));
    byId("found").replaceChildren();
    rows = [];
  } finally {
    byId("list").removeAttribute("aria-busy");
  }
}

function ending(run) {
  if (next !== null) {
    const more = el("button", { class: "more", onclick: () => fetchPage(run, false) }, "more");
    new IntersectionObserver(
      (seen, observer) => {
        if (!seen.some((one) => one.isIntersecting)) return;
        observer.disconnect();
        fetchPage(run, false);
      },
      { root: byId("list"), rootMargin: "600px" },
    ).observe(more);
    return [more];
  }
  if (rows.length) return [];
  const nothing = run.responses ? "No response fits." : "No responses yet. They appear at the end of a step.";
  return [el("p", { class: "quiet pad" }, nothing)];
}

function summary(page, run) {
  const parts = [
    count(page.groups, "group") +
      (page.responses < run.responses ? ` · ${count(page.responses, "response")} that fit` : ""),
  ];
  if (first)
    parts.push(el("button", { class: "plain", onclick: () => drawList(run, { again: true }) }, "from the first"));
  return parts;
}

function item(row, run) {
  const wanted = get("where") === "response" ? "" : get("q");
  const fates = [...new Set(row.responses.map((one) => one.rejected))];
  return el(
    "a",
    { class: "item", href: link({ ...away(), group: row.group }), "data-group": row.group },
    el(
      "span",
      { class: "line" },
      el("b", {}, `#${row.group}`),
      el("span", { class: "quiet" }, `step ${row.step}`),
      el("span", { class: "gap" }),
      fate(fates),
    ),
    el("span", { class: "asked" }, shown(row.prompt, wanted)),
    row.excerpt ? el("span", { class: "excerpt" }, shown(row.excerpt, get("q"))) : null,
    el(
      "span",
      { class: "line" },
      bars(row.responses, run),
      row.more ? el("span", { class: "quiet" }, `+${row.more}`) : null,
    ),
  );
}

export function fate(reasons) {
  if (reasons.length > 1)
    return el("span", { class: "fate some" }, reasons.includes("") ? "partly trained" : reasons.join(", "));
  return el("span", { class: "fate " + (reasons[0] ? "not" : "trained") }, shown(reasons[0] || "trained"));
}

function showHere() {
  for (const one of byId("list").querySelectorAll(".item")) {
    const here = one.dataset.group === get("group");
    one.classList.toggle("here", here);
    if (here) {
      one.setAttribute("aria-current", "true");
      one.scrollIntoView({ block: "nearest" });
      restsAt = byId("list").scrollTop;
    } else one.removeAttribute("aria-current");
  }
}

function drawChoices(run) {
  const active = filterCount();
  byId("filters-title").textContent = active ? `Filters (${active})` : "Filters";
  if (document.activeElement !== byId("text")) byId("text").value = get("q");
  const now = location.search + run.changes;
  if (now === drawn || (byId("choices").contains(document.activeElement) && document.activeElement.type === "number"))
    return;
  drawn = now;
  const focused = document.activeElement?.dataset?.choice;
  byId("choices").replaceChildren(
    ...Object.entries(WORDS)
      .map(([name, title]) => chips(name, title, run.words[name]))
      .filter(Boolean),
    el("div", { class: "ranges" }, ...RANGES.map(([name, title, step]) => range(name, title, step, run))),
    el(
      "div",
      { class: "line wrap" },
      select("sort", SORTS, "newest-first", "sort by"),
      select("where", PLACES, "both", "search in"),
      get("prompt") ? chip("prompt " + get("prompt"), true, () => go({ prompt: "" })) : null,
      active || get("q")
        ? el("button", { type: "button", class: "plain", onclick: () => go(cleared()) }, "clear all")
        : null,
    ),
  );
  if (focused)
    byId("choices")
      .querySelector(`[data-choice="${CSS.escape(focused)}"]`)
      ?.focus();
}

function chips(name, title, words) {
  const chosen = all(name);
  if (Object.keys(words).length < 2 && !chosen.length) return null;
  return el(
    "div",
    { class: "chips" },
    el("span", { class: "quiet label" }, title),
    ...Object.entries(words).map(([word, times]) => {
      const said = name === "rejected" && !word ? "trained" : word;
      const on = chosen.includes(said);
      const pick = () => go({ [name]: on ? chosen.filter((one) => one !== said) : [...chosen, said] });
      const text = name === "finish" ? ({ stop: "by itself", length: "cut", abort: "aborted" }[word] ?? word) : said;
      return chip(text, on, pick, times, `${name}:${said}`);
    }),
  );
}

function chip(text, on, pick, times, choice) {
  return el(
    "button",
    { type: "button", class: "chip", "aria-pressed": String(on), onclick: pick, "data-choice": choice },
    shown(text),
    times === undefined ? " ×" : el("span", { class: "quiet" }, " " + times.toLocaleString("en")),
  );
}

function range(name, title, step, run) {
  const [low, high] = get(name).includes("..") ? get(name).split("..") : [get(name), get(name)];
  const bounds = {
    step: [run.first_step, run.last_step],
    score: [run.low, run.high],
    version: [run.oldest, run.newest],
    length: [run.shortest, run.most_tokens],
  }[name];
  const ends = [low, high].map((value, end) =>
    el("input", {
      type: "number",
      step,
      value,
      placeholder: decimal(bounds[end]).replace("−", "-"),
      "aria-label": `${title} ${end ? "at most" : "at least"}`,
    }),
  );
  const send = () => {
    const [a, b] = ends.map((end) => end.value.trim());
    go({ [name]: a || b ? (a === b ? a : `${a}..${b}`) : "" }, { replace: true });
  };
  ends.forEach((end) => end.addEventListener("change", send));
  return el("label", {}, el("span", { class: "quiet label" }, title), ends[0], "–", ends[1]);
}

function select(name, options, standard, label) {
  const made = el(
    "select",
    { "aria-label": label, "data-choice": name },
    ...Object.entries(options).map(([value, text]) =>
      el("option", { value, selected: value === (get(name) || standard) }, text),
    ),
  );
  made.addEventListener("change", () => go({ [name]: made.value === standard ? "" : made.value }));
  return made;
}

export function beginSearch() {
  let timer = 0;
  byId("text").addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => go({ q: event.target.value }, { replace: true }), 180);
  });
  byId("search").addEventListener("submit", (event) => event.preventDefault());
  byId("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    clearTimeout(timer);
    go({ q: byId("text").value });
    byId("text").blur();
  });
  byId("filters").open = matchMedia("(min-width: 900px) and (min-height: 700px)").matches;
}
