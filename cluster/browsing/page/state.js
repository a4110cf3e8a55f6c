// What is looked at stands in the URL, so that a link shows the same to whoever opens it, and "back" goes back.

const RANGES = ["step", "score", "version", "length"];
const CHOICES = ["outcome", "rejected", "seat", "finish"];
const FILTERS = ["q", "where", "prompt", "sort", ...RANGES, ...CHOICES];
const PLACES = ["group", "response", "at", "view"];
const listeners = [];

export const query = () => new URLSearchParams(location.search);
export const get = (name) => query().get(name) ?? "";
export const all = (name) => query().getAll(name);

function changed(changes) {
  const next = query();
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) next.append(name, one);
    }
  }
  return next;
}

export function link(changes) {
  const text = changed(changes).toString();
  return text ? "?" + text : "./";
}

export function go(changes, { replace = false } = {}) {
  const target = link(changes);
  if (target === (location.search || "./")) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  tell();
}

export function filters() {
  const found = new URLSearchParams();
  for (const [name, value] of query()) if (FILTERS.includes(name) && value) found.append(name, value);
  return found;
}

export const filterCount = () => [...filters().keys()].filter((name) => !["q", "sort", "where"].includes(name)).length;
export const cleared = () => Object.fromEntries(FILTERS.map((name) => [name, ""]));
export const away = () => Object.fromEntries(PLACES.map((name) => [name, ""]));
export const onChange = (listener) => listeners.push(listener);
export const tell = () => listeners.forEach((listener) => listener());

addEventListener("popstate", tell);
// A click on a link within the page changes the URL without loading it anew.
addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href]");
  if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const target = new URL(anchor.href);
  if (target.origin !== location.origin || target.pathname !== location.pathname) return;
  event.preventDefault();
  if (target.search !== location.search) history.pushState(null, "", target);
  tell();
});
