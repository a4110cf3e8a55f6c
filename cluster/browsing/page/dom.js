// Elements made by hand. Whatever comes from a run goes in as text, never as markup.

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export const byId = (id) => document.getElementById(id);

export function count(number, one, many) {
  return `${Number(number).toLocaleString("en")} ${number === 1 ? one : (many ?? one + "s")}`;
}

export function decimal(number, digits = 3) {
  if (number === null || number === undefined) return "";
  const text = Number.isInteger(number) ? String(number) : number.toFixed(digits).replace(/\.?0+$/, "");
  return text === "-0" ? "0" : text.replace("-", "−");
}

export const signed = (number) => (number > 0 ? "+" : "") + decimal(number);
