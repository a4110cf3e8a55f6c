// One response token by token: as a conversation of what was said to the policy and what it sampled, shaded.

import { ask } from "./api.js";
import { bars } from "./bars.js";
import { count, decimal, el, signed } from "./dom.js";
import { facts, folded, parts, verdict, whyNot, adv } from "./group.js";
import { away, get, go, link } from "./state.js";
import { SHADES, isTrained, shade, shades } from "./shades.js";
import { shown } from "./text.js";

let open = []; // what is drawn: the response of the URL first, then those of its episode that stand beside it

export function drawResponse(group, run) {
  const number = Number(get("response"));
  const one = group.responses[number];
  if (!one)
    return [el("p", { class: "problem" }, `Group ${group.group} has ${count(group.responses.length, "response")}.`)];
  const others = get("view") === "episode" ? companions(group, one) : [];
  const detail = el("div", { class: "detail", hidden: true, "aria-live": "polite" });
  open = [one, ...others].map((each) => viewOf(group, each, run, detail));
  const legend = el("div", { class: "legend" });
  open[0].legend = legend;
  open.forEach((view) => fetchPage(view, 0));
  const columns = others.length
    ? el(
        "div",
        { class: "episode" },
        ...open.map((view) =>
          el(
            "div",
            {},
            el("h2", {}, shown(view.one.seat)),
            el("p", { class: "line wrap" }, verdict(view.one), adv(view.one), ...facts(view.one)),
            view.one.why ? el("p", { class: "why" }, shown(view.one.why)) : null,
            view.blocks,
          ),
        ),
      )
    : open[0].blocks;
  return [head(open[0]), el("div", { class: "bar-of-shades" }, shades(), legend), columns, detail];
}

const companions = (group, one) =>
  group.responses.filter((each) => several(group) && each.episode === one.episode && each.number !== one.number);

function viewOf(group, one, run, detail) {
  const view = {
    group,
    one,
    run,
    detail,
    blocks: el("div", { class: "talk" }),
    legend: null,
    data: null,
    last: null,
    turns: 0,
    spans: [],
  };
  view.blocks.addEventListener("pointerover", (event) => tell(view, event.target.closest?.(".t")));
  view.blocks.addEventListener("pointerleave", () => tell(open[0], pinned(open[0])));
  view.blocks.addEventListener("click", (event) => {
    const token = event.target.closest?.(".t");
    if (view === open[0] && token && !String(getSelection()))
      go({ at: get("at") === token.dataset.i ? "" : token.dataset.i }, { replace: true });
  });
  return view;
}

function head({ group, one, run }) {
  const seats = companions(group, one);
  return el(
    "div",
    { class: "head" },
    el("a", { class: "back", href: link({ response: "", at: "" }), "aria-label": "back to the group" }, "‹"),
    el(
      "h1",
      {},
      el("a", { href: link({ response: "", at: "" }) }, `Group ${group.group}`),
      ` · response ${one.number}`,
    ),
    el("span", { class: "quiet" }, `step ${group.step}`),
    el("span", { class: "gap" }),
    bars(group.responses, run, (each) => link({ ...away(), group: group.group, response: each.number }), one.number),
    el(
      "div",
      { class: "line wrap full" },
      verdict(one),
      adv(one),
      ...facts(one),
      one.logprob === null
        ? null
        : el(
            "span",
            { class: "quiet", title: "mean log-probability of its tokens" },
            `log p ${decimal(one.logprob, 3)} in the mean`,
          ),
    ),
    one.why ? el("p", { class: "why full" }, shown(one.why)) : null,
    parts(one),
    one.rejected ? el("p", { class: "quiet full" }, shown(whyNot(one.rejected))) : null,
    seats.length
      ? el(
          "p",
          { class: "full line wrap" },
          el("span", { class: "quiet" }, `also in episode ${one.episode}:`),
          ...seats.map((each) =>
            el(
              "a",
              { class: "button", href: link({ ...away(), group: group.group, response: each.number }) },
              shown(each.seat),
              ` (${each.number})`,
            ),
          ),
          el(
            "a",
            { class: "button", href: link({ view: get("view") === "episode" ? "" : "episode", at: "" }) },
            get("view") === "episode" ? "this seat alone" : "side by side",
          ),
        )
      : null,
    one.spans.length ? spans(one) : null,
    el(
      "details",
      { class: "full" },
      el("summary", { class: "quiet" }, "prompt and reference"),
      folded(group.prompt, 1500),
      el("p", { class: "quiet" }, "reference"),
      folded(group.reference, 700),
    ),
  );
}

const several = (group) => new Set(group.responses.map((one) => one.siblings)).size > 1;

function spans(one) {
  const rows = one.spans.map((span) =>
    el(
      "li",
      {},
      el("b", {}, signed(span.value)),
      " ",
      el("code", {}, shown(one.text.slice(span.start, Math.min(span.end, span.start + 120)))),
    ),
  );
  return el(
    "details",
    { class: "full" },
    el("summary", { class: "quiet" }, count(one.spans.length, "span reward")),
    el("ul", {}, ...rows),
  );
}

async function fetchPage(view, from) {
  try {
    const page = await ask(`api/groups/${view.group.group}/responses/${view.one.number}?from=${from}`);
    if (!open.includes(view)) return;
    view.blocks.querySelector(".more")?.remove();
    if (page.tokens) addTokens(view, page);
    else addText(view, page);
    if (page.next !== null) {
      const left = page.total - page.next;
      view.blocks.append(
        el(
          "button",
          { class: "more", onclick: () => fetchPage(view, page.next) },
          page.tokens ? `${count(left, "more token")}` : `${count(left, "more character")}`,
        ),
      );
    }
    shade(view);
    show(view, from === 0);
  } catch (failure) {
    view.blocks.append(el("p", { class: "problem" }, failure.message));
  }
}

function addText(view, page) {
  if (!page.start) {
    view.blocks.append(el("p", { class: "note" }, page.why));
    view.blocks.append(block("prompt", "said", el("pre", { class: "said" }, shown(view.group.prompt, get("q")))));
    view.last = el("pre", { class: "said" });
    view.blocks.append(
      block(
        view.one.turns > 1 ? `all ${view.one.turns} turns of the policy, one behind the other` : "response",
        "own",
        view.last,
      ),
    );
  }
  view.last.append(shown(page.text, get("q")));
}

const block = (title, kind, ...inside) =>
  el("section", { class: "block " + kind }, el("h3", {}, shown(title)), ...inside);

function addTokens(view, { tokens, start }) {
  const data = (view.data ??= {
    ids: [],
    texts: [],
    sampled: [],
    streams: [],
    logprobs: [],
    versions: [],
    rewards: [],
  });
  for (const name of Object.keys(data)) data[name].push(...tokens[name]);
  for (let i = start; i < data.ids.length; i++) {
    const begins = i === 0 || data.sampled[i] !== data.sampled[i - 1] || data.streams[i] !== data.streams[i - 1];
    if (begins) openBlock(view, i);
    view.last.append(tokenOf(view, i));
  }
}

function openBlock(view, i) {
  const { data, one } = view;
  const newStream = i > 0 && data.streams[i] !== data.streams[i - 1];
  if (newStream)
    view.blocks.append(
      el(
        "p",
        { class: "note" },
        "The chat template shows the past otherwise from here on: the conversation goes on in a new stream.",
      ),
    );
  const seat = one.seat === "policy" ? "policy" : `${one.seat} (the policy)`;
  const title = data.sampled[i]
    ? one.turns > 1
      ? `${seat}, turn ${++view.turns}`
      : `${seat}`
    : i && !newStream
      ? "said to the policy"
      : one.seat === "policy"
        ? "prompt"
        : `said to ${one.seat}`;
  view.last = el("div", { class: "tokens" });
  view.blocks.append(block(title, data.sampled[i] ? "own" : "said", view.last));
}

function tokenOf(view, i) {
  const text = view.data.texts[i];
  const token = el("span", { class: "t", "data-i": i });
  if (text === null) token.append(el("span", { class: "unseen" }, `‹${view.data.ids[i]}›`));
  else if (text.includes("\n")) token.append(...lines(text));
  else token.append(shown(text));
  view.spans[i] = token;
  return token;
}

function lines(text) {
  return text
    .split("\n")
    .flatMap((line, at) => (at ? [el("span", { class: "newline" }, "↵"), "\n", shown(line)] : [shown(line)]));
}

const pinned = (view) => view.spans[Number(get("at"))] ?? null;

function tell(view, token) {
  view.detail.hidden = !token;
  if (!token || !view.data) return;
  const { data, one } = view;
  const i = Number(token.dataset.i);
  const text = data.texts[i];
  const said = [
    el("b", {}, `token ${i}`),
    el(
      "code",
      {},
      text === null ? "not in the tokenizer" : text === "" ? "a part of a character" : shown(JSON.stringify(text)),
    ),
    el("span", { class: "quiet" }, `id ${data.ids[i]}`),
  ];
  if (data.sampled[i]) {
    const p = data.logprobs[i];
    said.push(p === null ? "log p not known" : `log p ${decimal(p, 4)} (${percent(Math.exp(p))})`);
    said.push(data.versions[i] < 0 ? "version not known" : `version ${data.versions[i]}`);
    said.push(
      isTrained(one)
        ? one.advantage === null
          ? "trained on"
          : `trained on, advantage ${signed(one.advantage)}`
        : "not trained on",
    );
  } else said.push("said to the policy, not trained on");
  if (data.rewards.length && data.rewards[i] !== null) said.push(`reward of its own ${signed(data.rewards[i])}`);
  view.detail.replaceChildren(...said.map((one) => el("span", {}, one)));
}

function percent(p) {
  return p >= 0.9995 ? "≈ 100 %" : p < 0.0005 ? "< 0.1 %" : `${decimal(100 * p, 1)} %`;
}

function show(view, scroll) {
  if (view !== open[0]) return;
  for (const token of view.blocks.querySelectorAll(".pinned")) token.classList.remove("pinned");
  const token = get("at") ? pinned(view) : null;
  token?.classList.add("pinned");
  if (scroll) token?.scrollIntoView({ block: "center" });
  tell(view, token);
}

// When only shade or token have changed, what is drawn stays.
export function redraw(group) {
  const first = open[0];
  if (!first || first.group !== group || String(first.one.number) !== get("response") || !first.blocks.isConnected)
    return false;
  const chosen = get("shade") || "logprob";
  const chips = document.querySelectorAll(".bar-of-shades .chip");
  Object.keys(SHADES).forEach((name, at) => chips[at]?.setAttribute("aria-pressed", String(name === chosen)));
  open.forEach(shade);
  show(first, false);
  return true;
}

export function moveToken(step) {
  const first = open[0];
  if (!get("at") || !first?.spans.length) return false;
  const next = Math.min(Math.max(Number(get("at")) + step, 0), first.spans.length - 1);
  go({ at: String(next) }, { replace: true });
  first.spans[next].scrollIntoView({ block: "nearest" });
  return true;
}
