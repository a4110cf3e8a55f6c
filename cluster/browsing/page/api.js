// Asks winnow for data. The token of the page's URL, where there is one, goes along.

import { get } from "./state.js";

export class Problem extends Error {}

export async function ask(path, signal) {
  const headers = get("access") ? { "x-winnow-token": get("access") } : {};
  let answer;
  try {
    answer = await fetch(path, { headers, signal });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new Problem("winnow rollouts does not answer: has it ended?");
  }
  if (answer.ok) return answer.json();
  const said = await answer.text();
  let problem = said;
  try {
    problem = JSON.parse(said).problem;
  } catch {
    // a plain sentence
  }
  throw new Problem(problem || `it answered ${answer.status}`);
}
