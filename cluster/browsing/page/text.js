// How a text from a run is shown: characters that cannot be seen, or that turn or hide what stands beside them, by a
// name; what was searched for highlighted.

const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\u{e0000}-\\u{e007f}]",
  "gu",
);

const CONTROLS = (
  "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS " +
  "US"
).split(" ");

function nameOf(character) {
  const code = character.codePointAt(0);
  if (code < CONTROLS.length) return CONTROLS[code];
  return "U+" + code.toString(16).toUpperCase().padStart(4, "0");
}

function visible(text, into) {
  let last = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if (found.index > last) into.append(text.slice(last, found.index));
    const sign = document.createElement("span");
    sign.className = "unseen";
    sign.title = "U+" + found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    sign.textContent = nameOf(found[0]);
    into.append(sign);
    last = found.index + found[0].length;
  }
  if (last < text.length) into.append(text.slice(last));
}

export function shown(text, wanted = "") {
  const whole = document.createDocumentFragment();
  if (!wanted) {
    visible(text, whole);
    return whole;
  }
  const small = text.toLowerCase();
  const sought = small.length === text.length ? wanted.toLowerCase() : wanted;
  const where = small.length === text.length ? small : text;
  let last = 0;
  for (let at = where.indexOf(sought), hits = 0; at >= 0 && hits < 2000; at = where.indexOf(sought, last), hits++) {
    visible(text.slice(last, at), whole);
    const hit = document.createElement("mark");
    visible(text.slice(at, at + sought.length), hit);
    whole.append(hit);
    last = at + sought.length;
  }
  visible(text.slice(last), whole);
  return whole;
}
