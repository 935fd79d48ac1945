// @ts-check
// Workloads, nodes and the values of a dimension, sorted by what they lose.
import { address, get } from "../api.js";
import { dimensions } from "../dimensions.js";
import { el, ratio, title, to } from "../dom.js";
import { costFigure, heldFigure, liveWorkload, lostShareFigure, reported, wasted } from "../explained.js";
import { inline } from "../figures.js";
import { chooser, period } from "../periods.js";
import { table } from "../tables.js";

/** Rows of a list at most; the rest is one of them, so that the sums are right. */
const ALL = 2000, OTHER = "(other)";

/** Columns that every list has. @param {any} report @param {string} source @returns {import("../tables.js").Column<any>[]} */
function costs(report, source) {
  /** @type {Map<any, import("../figures.js").Figure[]>} */
  const made = new Map();
  const cell = (/** @type {string} */ label) => (/** @type {any} */ row) => {
    if (!made.has(row)) made.set(row, reported(row, report, source));
    const figure = made.get(row)?.find((one) => one.label === label);
    return figure ? inline(figure) : "–";
  };
  return [
    { name: "lost", number: true, value: wasted, show: cell("Lost") },
    { name: "of cost", number: true, value: (row) => ratio(wasted(row), row.cost), show: (row) => inline(lostShareFigure(row, report, source)) },
    { name: "cost", number: true, value: (row) => row.cost, show: (row) => inline(costFigure("Cost", row, report, source)) },
    { name: `${report.currency}/Mtok`, number: true, value: (row) => row.cost_per_mtok_loaded, show: cell("Cost per million tokens, loaded") },
    { name: "tokens/s per W", number: true, value: (row) => row.tokens_per_second_per_watt, show: cell("Tokens/s per watt") },
    { name: "tokens", number: true, value: (row) => row.tokens, show: cell("Tokens") },
    { name: "GPU-h", number: true, value: (row) => row.active_gpu_hours + row.idle_gpu_hours, show: (row) => inline(heldFigure(row, report, source)) },
  ];
}

/** The workloads of /v1/summary, by what they lose now. @param {any} summary @param {string} source */
export function workloadsNow(summary, source) {
  const of = (/** @type {any} */ row) => liveWorkload(row, summary, source);
  return table(`Workloads over ${summary.seconds} s up to ${summary.end}`, summary.workloads, [
    { name: "workload", value: (row) => row.workload, show: (row) => el("a", { href: to("workload", row.cluster, row.workload) }, row.workload) },
    { name: "model", value: (row) => row.model || "–" },
    { name: "idle, per hour", number: true, value: (row) => row.cost.allocated - row.cost.direct, show: (row) => inline(of(row).idle) },
    { name: "cost per hour", number: true, value: (row) => row.cost.allocated, show: (row) => inline(of(row).cost) },
    { name: `${summary.currency}/Mtok`, number: true, value: (row) => row.cost_per_million_tokens.total.loaded, show: (row) => inline(of(row).loaded) },
    { name: "tokens/s per W", number: true, value: (row) => row.tokens_per_second_per_watt.total, show: (row) => inline(of(row).yield) },
    { name: "first token, p95", number: true, value: (row) => row.latency.first_token?.p95_ms ?? null, show: (row) => inline(of(row).wait) },
  ], 2);
}

/** @param {string} text period @param {Record<string, string>} [where] @param {number} [top] those that lose most */
export async function workloadTable(text, where = {}, top = ALL) {
  const query = { period: text, by: "cluster,workload,model", top, ...where };
  const report = await get("report", query);
  const named = (/** @type {any} */ row) => row.workload.startsWith("(") ? row.workload : el("a", { href: to("workload", row.cluster, row.workload) }, row.workload);
  return table(`Workloads in ${report.start.slice(0, 10)} to ${report.end.slice(0, 10)}`, report.rows, [
    { name: "workload", value: (row) => row.workload, show: named },
    { name: "model", value: (row) => row.model || "–" },
    ...costs(report, address("report", query)),
  ], 2, report.total);
}

/** @param {string} dimension @param {string} text @param {Record<string, string>} [where] @param {number} [top] */
export async function dimensionTable(dimension, text, where = {}, top = ALL) {
  const query = { period: text, by: dimension, top, ...where };
  const report = await get("report", query);
  return table(`By ${title(dimension)}, ${report.start.slice(0, 10)} to ${report.end.slice(0, 10)}`, report.rows, [
    { name: title(dimension), value: (row) => row[dimension], show: (row) => row[dimension] === OTHER ? OTHER : el("a", { href: to("chargeback", dimension, row[dimension]) }, row[dimension]) },
    ...costs(report, address("report", query)),
  ], 1, report.total);
}

/** @param {string} text @param {Record<string, string>} [where] */
export async function nodeTable(text, where = {}) {
  const query = { period: text, by: "cluster,node,pool", top: ALL, ...where };
  const report = await get("report", query);
  return table(`Nodes in ${report.start.slice(0, 10)} to ${report.end.slice(0, 10)}`, report.rows, [
    { name: "node", value: (row) => row.node, show: (row) => row.node && row.node !== OTHER ? el("a", { href: to("node", row.cluster, row.node) }, row.node) : row.node || "(nowhere)" },
    { name: "cluster", value: (row) => row.cluster },
    { name: "pool", value: (row) => row.pool },
    ...costs(report, address("report", query)),
  ], 3, report.total);
}

/** @param {import("../main.js").Page} page @param {string} heading @param {(text: string) => Promise<HTMLElement>} make @param {...Node} controls */
async function list(page, heading, make, ...controls) {
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  page.show(el("h1", {}, heading), el("div", { class: "controls" }, ...controls, chooser(() => page.run(fill))), body);
  async function fill() {
    body.replaceChildren(await make(period().text()));
  }
  await fill();
}

/** @param {import("../main.js").Page} page */
export async function workloads(page) {
  await list(page, "Workloads by waste", workloadTable);
}

/** @param {import("../main.js").Page} page */
export async function nodes(page) {
  await list(page, "Nodes by waste", nodeTable);
}

/** @param {import("../main.js").Page} page @param {string} [dimension] the first one by default */
export async function chargeback(page, dimension) {
  const names = await dimensions(), shown = dimension ?? names[0];
  const choice = el("select", { "aria-label": "Dimension", onchange: () => { location.hash = to("chargeback", choice.value); } },
    ...[...new Set([...names, shown])].map((name) => el("option", { value: name, selected: name === shown }, title(name))));
  await list(page, `Chargeback by ${title(shown)}`, (text) => dimensionTable(shown, text), el("label", {}, "by ", choice));
}
