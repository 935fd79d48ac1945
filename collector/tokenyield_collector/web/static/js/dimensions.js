// @ts-check
// The dimensions of the attribution rules, by which costs are carried; the first one is who is charged.
import { get } from "./api.js";

/** @type {string[]} */
let known = [];
/** @type {Promise<any> | null} */
let context = null;

/** @returns {Promise<string[]>} */
export async function dimensions() {
  if (!known.length) remember(await asked());
  return known;
}

/** Whether the token reads what some teams carry alone: then pages of the whole fleet are refused. @returns {Promise<boolean>} */
export async function isOfTeams() {
  return (await asked()).teams !== null;
}

/** @returns {Promise<any>} of /v1/context, once */
async function asked() {
  context ??= get("context");
  try {
    return await context;
  } catch (error) {
    context = null; // the next page asks again
    throw error;
  }
}

/** @param {{dimensions: string[]}} summary of /v1/summary or /v1/context; the rules may have changed */
export function remember(summary) {
  known = summary.dimensions;
}
