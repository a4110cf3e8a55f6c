// The keyboard.

import { byId, el } from "./dom.js";
import { hitsOf, neighbour } from "./list.js";
import { moveToken } from "./response.js";
import { SHADES } from "./shades.js";
import { away, get, go } from "./state.js";

const KEYS = [
  ["j  k", "next and previous group, or response where one is open"],
  ["↓  ↑", "the same for groups; in a response they scroll"],
  ["←  →", "previous and next response; with a token chosen, token"],
  ["Enter", "open: the group's first response that fits"],
  ["Esc", "back: token, response, group, search"],
  ["[  ]", "the same prompt at an earlier and a later step"],
  ["p", "this prompt, step by step"],
  ["e", "all seats of the episode side by side"],
  ["1 … 5", "shade tokens by " + Object.values(SHADES).join(", ")],
  ["/", "search"],
  ["f", "filters"],
  ["r", "show what came since"],
  ["?", "these keys"],
];

export function beginKeys(group, refresh) {
  const help = byId("help");
  help.append(
    el("h2", {}, "Keys"),
    el("dl", {}, ...KEYS.flatMap(([key, does]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)])),
    el("p", { class: "quiet" }, "The URL holds what you see: copy it to show it to someone who has the run."),
  );
  help.addEventListener("click", (event) => event.target === help && help.close());
  byId("help-button").addEventListener("click", () => help.showModal());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const typing = event.target.matches?.("input, select, textarea");
    if (typing) {
      if (event.key === "Escape" || (event.key === "ArrowDown" && event.target === byId("text"))) event.target.blur();
      return;
    }
    if (event.key === "Enter" && event.target.matches?.("a, button, summary")) return;
    const action = actions(group())[event.key];
    if (!action) return;
    event.preventDefault();
    action(refresh);
  });
}

function actions(group) {
  const inside = get("response") !== "";
  const toGroup = (step) => () => {
    const next = neighbour(step);
    if (next !== undefined) go({ ...away(), group: String(next) });
  };
  const toResponse = (step) => () => {
    if (moveToken(step) || !group) return;
    const most = group.responses.length - 1;
    const next = get("response") === "" ? (step > 0 ? 0 : most) : Number(get("response")) + step;
    if (next >= 0 && next <= most)
      go({ response: String(next), view: get("view") === "episode" ? "episode" : "", at: "" });
  };
  const toVisit = (step) => () => {
    const at = group ? group.visits.findIndex((one) => one.group === group.group) : -1;
    const next = at < 0 ? undefined : group.visits[at + step];
    if (next) go({ ...away(), group: String(next.group) });
  };
  const found = {
    j: inside ? toResponse(1) : toGroup(1),
    k: inside ? toResponse(-1) : toGroup(-1),
    ArrowLeft: toResponse(-1),
    ArrowRight: toResponse(1),
    "[": toVisit(-1),
    "]": toVisit(1),
    "/": () => byId("text").focus(),
    "?": () => byId("help").showModal(),
    f: () => (byId("filters").open = !byId("filters").open),
    p: () => group && go({ view: get("view") ? "" : "prompt", response: "", at: "" }),
    e: () => inside && go({ view: get("view") === "episode" ? "" : "episode", at: "" }),
    r: (refresh) => refresh(),
    Enter: () => {
      if (get("group") === "") toGroup(0)();
      else if (!inside && group) go({ view: "", response: String(hitsOf(group.group)[0] ?? 0) });
    },
    Escape: () => {
      const places = get("response") === "" ? ["view", "group"] : ["at", "view", "response"];
      const last = places.find((name) => get(name) !== "");
      if (last) go({ [last]: "" });
    },
  };
  if (!inside) Object.assign(found, { ArrowDown: toGroup(1), ArrowUp: toGroup(-1) });
  Object.keys(SHADES).forEach(
    (name, at) => (found[String(at + 1)] = () => go({ shade: name === "logprob" ? "" : name }, { replace: true })),
  );
  return found;
}
