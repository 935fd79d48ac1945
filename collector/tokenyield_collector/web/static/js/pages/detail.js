// @ts-check
// One workload, one node, or one value of a dimension.
import { address, get } from "../api.js";
import { COSTS, LIVE_BUCKETS } from "../buckets.js";
import { stacked } from "../charts.js";
import { dimensions } from "../dimensions.js";
import { el, exact, money, num, percent, title, to } from "../dom.js";
import { reported } from "../explained.js";
import { figure, inline } from "../figures.js";
import { chooser, period } from "../periods.js";
import { table } from "../tables.js";
import { dimensionTable, nodeTable, workloadTable } from "./lists.js";

const KINDS = ["prompt_computed", "prompt_cached", "prompt_unsplit", "completion"];

/**
 * @param {import("../main.js").Page} page
 * @param {string} heading
 * @param {Record<string, string>} where
 * @param {(text: string) => Promise<[string, HTMLElement][]>} more tables
 */
async function detail(page, heading, where, more) {
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  page.show(el("h1", {}, heading), el("div", { class: "controls" }, chooser(() => page.run(fill))), body);

  async function fill() {
    const { grain, text } = period();
    const query = { period: text(), by: grain, ...where };
    const report = await get("report", query);
    const rows = report.rows, times = rows.map((/** @type {any} */ row) => row[grain]);
    const of = (/** @type {string} */ name) => rows.map((/** @type {any} */ row) => row[name]);
    body.replaceChildren(
      el("div", { class: "figures" }, ...reported(report.total, report, address("report", query)).map(figure)),
      el("h2", {}, "Over time"),
      el("div", { class: "columns" },
        stacked(`Cost by ${grain}`, times, COSTS.map((part) => ({ name: part, values: rows.map((/** @type {any} */ row) => row.shown[`cost_${part}`]) })), report.currency, (value) => money(value, "")),
        stacked(`Tokens by ${grain}`, times, KINDS.map((kind) => ({ name: kind, values: of(kind) })), "tokens"),
        stacked(`GPU-hours by ${grain}`, times, LIVE_BUCKETS.map((name) => ({ name, values: of(`${name}_gpu_hours`) })), "GPU-h")),
      el("p", { class: "quiet" }, report.notes.join(" · ")),
    );
    for (const [name, made] of await more(text())) body.append(el("h2", {}, name), made);
  }
  await fill();
}

/** @param {import("../main.js").Page} page @param {string} cluster @param {string} name */
export async function workload(page, cluster, name) {
  const where = { cluster, workload: name };
  await detail(page, `Workload ${name}`, where, async (text) => [["As its agent knows it", await knownOf(cluster, name)], ["Who carries it", await dimensionTable((await dimensions())[0], text, where)], ["Where it runs", await nodeTable(text, where)]]);
}

/** Server, model and labels (its namespace, pod, owner, team, ...), of the live window. @param {string} cluster @param {string} name */
async function knownOf(cluster, name) {
  const { workloads } = await get("summary");
  const found = workloads.find((/** @type {any} */ one) => one.cluster === cluster && one.workload === name);
  const rows = found ? Object.entries({ server: found.server, model: found.model, ...found.labels }).filter(([, value]) => value) : [];
  return table("Over the live window", rows, [
    { name: "what", value: ([what]) => what },
    { name: "value", value: ([, value]) => value },
  ], 0);
}

/** @param {import("../main.js").Page} page @param {string} dimension @param {string} name */
export async function carrier(page, dimension, name) {
  const where = { [dimension]: name };
  await detail(page, `${title(dimension)}: ${name}`, where, async (text) => [["Workloads", await workloadTable(text, where)]]);
}

/** @param {import("../main.js").Page} page @param {string} cluster @param {string} name */
export async function node(page, cluster, name) {
  const where = { cluster, node: name };
  await detail(page, `Node ${name}`, where, async (text) => [["Now", await gpusOf(cluster, name)], ["Workloads", await workloadTable(text, where)]]);
}

/** @param {string} cluster @param {string} name */
async function gpusOf(cluster, name) {
  const fleet = await get("fleet"), { gpus } = fleet;
  const at = fleet.nodes.findIndex((/** @type {string[]} */ one) => one[0] === cluster && one[1] === name);
  const rows = gpus.node.map((/** @type {number} */ _, /** @type {number} */ i) => i).filter((/** @type {number} */ i) => gpus.node[i] === at);
  const held = (/** @type {number} */ i) => (gpus.workload[i] < 0 ? "" : fleet.workloads[gpus.workload[i]]);
  const span = /** @type {[string, string][]} */ ([["over", `${fleet.start} to ${fleet.end}`]]);
  return table("GPUs over the live window", rows, [
    { name: "GPU", value: (i) => gpus.uuid[i] },
    { name: "model", value: (i) => fleet.models[gpus.model[i]] },
    { name: "state", value: (i) => fleet.states[gpus.state[i]] },
    { name: "active", number: true, value: (i) => gpus.active_permille[i], show: (i) => inline({ label: "Active", value: percent(gpus.active_permille[i] / 1000), formula: "active time ÷ reported time", source: address("fleet"),
      inputs: [["active, thousandths", exact(gpus.active_permille[i])], ...span] }) },
    { name: "watts", number: true, value: (i) => gpus.watts[i], show: (i) => inline({ label: "Watts", value: num(gpus.watts[i]), formula: "joules ÷ reported seconds", source: address("fleet"),
      inputs: [["watts", exact(gpus.watts[i])], ...span] }) },
    { name: "held by", value: held, show: (i) => (held(i) ? el("a", { href: to("workload", cluster, held(i)) }, held(i)) : "nobody") },
  ], 0);
}
