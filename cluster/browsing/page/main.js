// Draws what the URL says, again whenever it changes, and looks now and then whether the run has gone on.

import { ask } from "./api.js";
import { byId, count, el } from "./dom.js";
import { drawGroup, forget, groupOf } from "./group.js";
import { drawHistory } from "./history.js";
import { beginKeys } from "./keys.js";
import { beginSearch, drawList, isAtRest, shownChanges } from "./list.js";
import { drawResponse, redraw } from "./response.js";
import { away, cleared, get, go, link, onChange } from "./state.js";

const SOON = 700; // milliseconds between two looks while the folder is being read
const LATER = 5000;

let run = null;
let group = null; // that is shown
let shownPlace = ""; // what the right side shows
let shownNotes = ""; // what the notes above the page are about

async function drawRight() {
  document.body.classList.toggle("inside", get("group") !== "");
  const place = ["group", "response", "view", "q"].map(get).join("\n");
  if (place === shownPlace && (get("response") === "" || redraw(group))) return;
  if (get("group") === "") {
    shownPlace = place;
    group = null;
    byId("right").replaceChildren(...welcome());
    return;
  }
  try {
    const found = await groupOf(get("group"));
    if (["group", "response", "view", "q"].map(get).join("\n") !== place) return;
    const before = shownPlace.split("\n");
    group = found;
    shownPlace = place;
    const draw = get("response") !== "" ? drawResponse : get("view") === "prompt" ? drawHistory : drawGroup;
    byId("right").replaceChildren(...draw(group, run).filter(Boolean));
    if (before.slice(0, 3).join() !== place.split("\n").slice(0, 3).join()) byId("right").scrollTop = 0;
    if (
      !document.activeElement ||
      document.activeElement === document.body ||
      !byId("left").contains(document.activeElement)
    )
      byId("right").focus({ preventScroll: true });
    document.title = `group ${group.group} · ${run.name}`;
  } catch (failure) {
    shownPlace = "";
    group = null;
    byId("right").replaceChildren(
      el("div", { class: "head" }, el("a", { class: "back", href: link(away()) }, "‹")),
      el("p", { class: "problem" }, failure.message),
    );
  }
}

function welcome() {
  document.title = `rollouts of ${run.name}`;
  const outcomes = Object.entries(run.words.outcome).map(([word, times]) =>
    el("a", { class: "button", href: link({ ...cleared(), outcome: word }) }, `${word} ${times.toLocaleString("en")}`),
  );
  return [
    el(
      "div",
      { class: "welcome" },
      !run.responses && run.complete
        ? el("p", {}, "There are no responses yet. They appear at the end of a step, and this page shows them then.")
        : el(
            "p",
            {},
            "Choose a group on the left, or press ",
            el("kbd", {}, "j"),
            ". ",
            el("kbd", {}, "?"),
            " shows all keys.",
          ),
      outcomes.length
        ? el(
            "p",
            { class: "line wrap" },
            ...outcomes,
            el(
              "a",
              { class: "button", href: link({ ...cleared(), sort: "mixed-first", rejected: "trained" }) },
              "trained, most mixed first",
            ),
            el("a", { class: "button", href: link({ ...cleared(), sort: "longest-first" }) }, "longest"),
          )
        : null,
      el("p", { class: "quiet small" }, run.texts),
      el("p", { class: "quiet small" }, run.advantages),
    ),
  ];
}

function drawTop() {
  byId("name").textContent = run.name;
  byId("home").title = run.folder;
  const steps = run.responses ? `, steps ${run.first_step}–${run.last_step}` : "";
  byId("counts").textContent = `${count(run.responses, "response")} in ${count(run.groups, "group")}${steps}`;
  const isOld = shownChanges() >= 0 && shownChanges() !== run.changes;
  const about = JSON.stringify([run.complete, run.complete ? isOld : run.read, run.files, run.problem_count, run.problems]);
  if (about === shownNotes) return; // what a person has unfolded stays so
  shownNotes = about;
  const notes = [];
  if (!run.complete) notes.push(`reading: ${run.read} of ${run.files} files`);
  else if (isOld)
    notes.push(el("button", { class: "plain", onclick: refresh }, "the run has gone on: show what came (r)"));
  if (run.problem_count)
    notes.push(
      el(
        "details",
        {},
        el("summary", {}, `${count(run.problem_count, "file")} cannot be read`),
        el("ul", {}, ...run.problems.map((problem) => el("li", {}, problem))),
      ),
    );
  byId("notice").replaceChildren(...notes.map((note) => el("div", {}, note)));
  byId("notice").hidden = !notes.length;
}

async function refresh() {
  forget();
  shownPlace = get("response") !== "" ? shownPlace : "";
  await drawList(run, { again: true });
  drawTop();
  await drawRight();
}

async function look() {
  let pause = LATER;
  try {
    const before = run;
    if (document.visibilityState === "visible" || !run) run = await ask("api/run");
    if (!run.complete) pause = SOON;
    if (!before || !before.complete || !before.responses) {
      if (!before || before.changes !== run.changes || before.complete !== run.complete) await refreshQuietly(before);
    }
    drawTop();
  } catch (failure) {
    shownNotes = "";
    byId("notice").hidden = false;
    byId("notice").replaceChildren(el("div", { class: "problem" }, failure.message));
  }
  setTimeout(look, pause);
}

async function refreshQuietly(before) {
  const sought = get("group") !== "" && !group; // by a link that was opened before its file was read
  if (!before || isAtRest()) await drawList(run, { again: Boolean(before), around: true });
  if (!before || get("group") === "" || sought) {
    shownPlace = "";
    await drawRight();
  }
}

onChange(async () => {
  if (!run) return;
  await Promise.all([drawList(run), drawRight()]);
  drawTop();
});
byId("home").addEventListener("click", (event) => {
  event.preventDefault();
  go({ ...away(), ...cleared() });
});
beginSearch();
beginKeys(
  () => (group && String(group.group) === get("group") ? group : null), // what is still being fetched has no keys
  refresh,
);
look();
