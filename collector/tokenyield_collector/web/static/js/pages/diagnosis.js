// @ts-check
// Why a workload yields less than it could: findings in words, with the measurements and the money at stake.
import { address, get } from "../api.js";
import { clock, count, el, exact, money, to } from "../dom.js";
import { figure, inline } from "../figures.js";
import { table } from "../tables.js";

const SPANS = /** @type {[string, string][]} */ ([["900", "Last 15 minutes"], ["3600", "Last hour"], ["21600", "Last 6 hours"], ["86400", "Last day"]]);
const AGAIN_MS = 60_000;

/** @param {import("../main.js").Page} page */
export async function diagnosis(page) {
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  const span = el("select", { "aria-label": "Time", onchange: () => page.run(fill) }, ...SPANS.map(([value, name]) => el("option", { value, selected: value === "3600" }, name)));
  page.show(el("h1", {}, "Diagnosis"),
    el("div", { class: "controls" }, span), body);

  async function fill() {
    const query = { window_s: span.value };
    const diagnoses = await get("diagnosis", query);
    page.asOf(diagnoses.end);
    body.replaceChildren(...drawn(diagnoses, address("diagnosis", query)));
  }
  await fill();
  page.every(AGAIN_MS, fill);
}

/** @param {any} diagnoses the answer of /v1/diagnosis @param {string} source @returns {HTMLElement[]} */
export function drawn(diagnoses, source) {
  const rows = diagnoses.workloads.flatMap((/** @type {any} */ workload) => workload.findings.map((/** @type {any} */ finding) => ({ ...finding, of: workload })));
  const well = diagnoses.workloads.filter((/** @type {any} */ workload) => !workload.findings.length);
  const { currency, shown_decimals: decimals } = diagnoses;
  return [
    el("div", { class: "figures" }, figure({
      label: "At stake per hour", value: money(diagnoses.shown, currency, decimals),
      note: `${count(rows.length, "finding")} in ${count(diagnoses.workloads.length, "workload")}`,
      formula: "sum over workloads of the most expensive finding of each: the cost per hour, at this pace, of the part that it is about",
      inputs: diagnoses.workloads.filter((/** @type {any} */ workload) => workload.findings[0]?.at_stake_per_hour).map((/** @type {any} */ workload) => [`${workload.workload}: ${words(workload.findings[0].kind)}`, money(workload.findings[0].shown, currency, decimals)]),
      source,
    })),
    table(`Findings of ${clock(diagnoses.start)} to ${clock(diagnoses.end)}`, rows, [
      { name: "workload", value: (row) => row.of.workload, show: (row) => el("a", { href: to("workload", row.of.cluster, row.of.workload) }, row.of.workload) },
      { name: "GPUs", number: true, value: (row) => row.of.gpus },
      { name: "finding", value: (row) => row.kind, show: (row) => el("strong", {}, words(row.kind)) },
      { name: "why", value: (row) => row.text, show: (row) => el("span", { class: "words" }, row.text) },
      { name: "at stake per hour", number: true, value: (row) => row.at_stake_per_hour, show: (row) => inline(stake(row, diagnoses, source)) },
    ], 4),
    el("p", { class: "quiet" }, well.length ? `No findings for ${well.map((/** @type {any} */ workload) => workload.workload).slice(0, 20).join(", ")}${well.length > 20 ? " and others" : ""}.` : ""),
    ...unknown(diagnoses.workloads),
  ];
}

/** @param {any} row @param {any} diagnoses @param {string} source @returns {import("../figures.js").Figure} */
function stake(row, { currency, shown_decimals: decimals }, source) {
  return {
    label: `${row.of.workload}: ${words(row.kind)}`, value: money(row.shown, currency, decimals), formula: row.text,
    inputs: [...Object.entries(row.evidence).map(([name, value]) => /** @type {[string, string]} */ ([words(name), exact(/** @type {number} */ (value))])),
      ["cost of the workload per hour", money(row.of.cost_per_hour, currency)]],
    source,
  };
}

/** What could not be examined, each reason once. @param {any[]} workloads */
function unknown(workloads) {
  /** @type {Map<string, string[]>} */
  const by = new Map();
  for (const workload of workloads) for (const why of workload.unknown) by.set(why, [...by.get(why) ?? [], workload.workload]);
  if (!by.size) return [];
  return [el("h2", {}, "Not examined"), el("ul", {}, ...[...by].map(([why, names]) =>
    el("li", {}, `${why} `, el("span", { class: "quiet" }, `(${names.slice(0, 8).join(", ")}${names.length > 8 ? ` and ${names.length - 8} more` : ""})`))))];
}

/** @param {string} name */
function words(name) {
  return name.replaceAll("_", " ");
}
