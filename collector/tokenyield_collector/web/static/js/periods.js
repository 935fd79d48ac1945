// @ts-check
// Periods that a page can show, in UTC days, as reports take them.
import { el } from "./dom.js";

/** @typedef {{ id: string, name: string, grain: "day" | "hour", text: () => string }} Period */

/** @param {number} back days before today */
export function daysBack(back) {
  return new Date(Date.now() - back * 86_400_000).toISOString().slice(0, 10);
}

/** @type {Period[]} */
export const PERIODS = [
  { id: "2d", name: "Yesterday and today", grain: "hour", text: () => `${daysBack(1)}..${daysBack(0)}` },
  { id: "7d", name: "Last 7 days", grain: "day", text: () => `${daysBack(6)}..${daysBack(0)}` },
  { id: "30d", name: "Last 30 days", grain: "day", text: () => `${daysBack(29)}..${daysBack(0)}` },
];
let chosen = PERIODS[2];

export function period() {
  return chosen;
}

/** A select; `changed` is called after a choice. @param {() => void} changed */
export function chooser(changed) {
  const select = el("select", { "aria-label": "Time" }, ...PERIODS.map((one) => el("option", { value: one.id, selected: one === chosen }, one.name)));
  select.addEventListener("change", () => {
    chosen = PERIODS.find((one) => one.id === select.value) ?? chosen;
    changed();
  });
  return select;
}

/** The last thirteen months, the current one first. */
export function months() {
  const now = new Date();
  return Array.from({ length: 13 }, (_, back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 7));
}
