// @ts-check
// The dimensions of the attribution rules, by which costs are carried; the first one is who is charged.
import { get } from "./api.js";

/** @type {string[]} */
let known = [];

/** @returns {Promise<string[]>} */
export async function dimensions() {
  if (!known.length) remember(await get("summary"));
  return known;
}

/** @param {any} summary of /v1/summary; the rules may have changed */
export function remember(summary) {
  known = summary.dimensions;
}
