// @ts-check
// Why workloads yield what they yield: findings in words, with what was measured and the money at stake.
import { address, get } from "../api.js";
import { clock, el, exact, money, to } from "../dom.js";
import { figure, inline } from "../figures.js";
import { table } from "../tables.js";

const SPANS = /** @type {[string, string][]} */ ([["900", "15 minutes"], ["3600", "an hour"], ["21600", "6 hours"], ["86400", "a day"]]);
const AGAIN_MS = 60_000;

/** @param {import("../main.js").Page} page */
export async function diagnosis(page) {
  const body = el("div", {}, el("p", { class: "quiet" }, "Reckoning …"));
  const span = el("select", { onchange: () => page.run(fill) }, ...SPANS.map(([value, name]) => el("option", { value, selected: value === "3600" }, name)));
  page.show(el("h1", {}, "Diagnosis"),
    el("div", { class: "controls" }, el("label", {}, "Of the newest ", span)), body);

  async function fill() {
    const query = { window_s: span.value };
    const found = await get("diagnosis", query);
    page.asOf(found.end);
    body.replaceChildren(...drawn(found, address("diagnosis", query)));
  }
  await fill();
  page.every(AGAIN_MS, fill);
}

/** @param {any} found the answer of /v1/diagnosis @param {string} source @returns {HTMLElement[]} */
export function drawn(found, source) {
  const rows = found.workloads.flatMap((/** @type {any} */ one) => one.findings.map((/** @type {any} */ finding) => ({ ...finding, of: one })));
  const well = found.workloads.filter((/** @type {any} */ one) => !one.findings.length);
  const { currency } = found;
  return [
    el("div", { class: "figures" }, figure({
      label: "At stake per hour", value: money(found.at_stake_per_hour, currency),
      note: `${rows.length} findings in ${found.workloads.length} workloads`,
      formula: "sum over workloads of their costliest finding: what an hour at this pace costs of the part that it speaks of",
      inputs: found.workloads.filter((/** @type {any} */ one) => one.findings[0]?.at_stake_per_hour).map((/** @type {any} */ one) => [`${one.workload}: ${said(one.findings[0].kind)}`, money(one.findings[0].at_stake_per_hour, currency)]),
      source,
    })),
    table(`Findings of ${clock(found.start)} to ${clock(found.end)}`, rows, [
      { name: "workload", value: (row) => row.of.workload, show: (row) => el("a", { href: to("workload", row.of.cluster, row.of.workload) }, row.of.workload) },
      { name: "GPUs", number: true, value: (row) => row.of.gpus },
      { name: "finding", value: (row) => row.kind, show: (row) => el("strong", {}, said(row.kind)) },
      { name: "why", value: (row) => row.text, show: (row) => el("span", { class: "words" }, row.text) },
      { name: "at stake per hour", number: true, value: (row) => row.at_stake_per_hour, show: (row) => inline(stake(row, currency, source)) },
    ], 4),
    el("p", { class: "quiet" }, well.length ? `Nothing was found of ${well.map((/** @type {any} */ one) => one.workload).slice(0, 20).join(", ")}${well.length > 20 ? " and others" : ""}.` : ""),
    ...untold(found.workloads),
  ];
}

/** @param {any} row @param {string} currency @param {string} source @returns {import("../figures.js").Figure} */
function stake(row, currency, source) {
  return {
    label: `${row.of.workload}: ${said(row.kind)}`, value: money(row.at_stake_per_hour, currency), formula: row.text,
    inputs: [...Object.entries(row.evidence).map(([name, value]) => /** @type {[string, string]} */ ([said(name), exact(/** @type {number} */ (value))])),
      ["cost of the workload per hour", money(row.of.cost_per_hour, currency)]],
    source,
  };
}

/** What could not be looked at, each reason once. @param {any[]} workloads */
function untold(workloads) {
  /** @type {Map<string, string[]>} */
  const by = new Map();
  for (const one of workloads) for (const why of one.untold) by.set(why, [...by.get(why) ?? [], one.workload]);
  if (!by.size) return [];
  return [el("h2", {}, "Not looked at"), el("ul", {}, ...[...by].map(([why, names]) =>
    el("li", {}, `${why} `, el("span", { class: "quiet" }, `(${names.slice(0, 8).join(", ")}${names.length > 8 ? ` and ${names.length - 8} more` : ""})`))))];
}

/** @param {string} name */
function said(name) {
  return name.replaceAll("_", " ");
}
