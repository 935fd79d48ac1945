// @ts-check
// The figures of summaries and reports, each with its formula and the numbers in it.
import { CATALOGUE, COSTS, IDLE_CAPACITY, LOST } from "./buckets.js";
import { exact, money, num, percent, ratio, title, unitCost, watts } from "./dom.js";

const IDENTITY = "the same as tokens ÷ joules, because a watt is a joule per second";
const IDLE_SHARE = "amortization or rent of idle capacity ÷ amortization and rent of all GPUs, of the same time";
const KINDS = ["prompt_computed", "prompt_cached", "prompt_unsplit", "completion"];

/** @param {string} name of a bucket */
function formulaOf(name) {
  const { meaning } = CATALOGUE[name];
  return name === "shared" ? meaning : `rate × ${title(name)} GPU-hours, and their energy; ${title(name)}: ${meaning}`;
}

/** @typedef {import("./figures.js").Figure} Figure */

/** The figures of /v1/summary: the fleet now. @param {any} summary @param {string} source @returns {Figure[]} */
export function live(summary, source) {
  const { fleet, currency } = summary, shown = shownIn(summary);
  const joules = total(fleet.energy_joules), tokens = fleet.tokens.total;
  const span = /** @type {[string, string]} */ (["over", `${exact(summary.seconds)} s up to ${summary.end}`]);
  const spent = total(fleet.gpu_seconds);
  return [
    { label: "Tokens/s per watt, now", value: num(fleet.tokens_per_second_per_watt.total), source, formula: `tokens per second ÷ watts of all GPUs, idle and unallocated ones included; ${IDENTITY}`,
      inputs: [["tokens", exact(tokens)], ["joules", exact(joules)], ...measured(fleet), span], note: `= tokens per joule; ${watts(joules / (summary.seconds || 1))}` },
    ...idleNow(summary, source, span),
    { label: "Cost per million tokens, now", value: unitCost(fleet.cost_per_million_tokens.total, currency), source, formula: "whole cost of the fleet ÷ (tokens ÷ 1,000,000)",
      inputs: [["whole cost", shown(fleet.shown?.cost)], ["tokens", exact(tokens)], span] },
    { label: "Cost per hour, now", value: unitCost(fleet.cost_per_hour, currency), source, formula: "(capacity + energy of all GPUs paid for) ÷ hours",
      inputs: [...summary.waterfall.map((/** @type {any} */ row) => [title(row.bucket), shown(row.shown.cost)]), ["sum", shown(fleet.shown?.cost)], span] },
    { label: "GPUs active, now", value: percent(ratio(fleet.gpu_seconds.active, spent)), source, formula: "active GPU seconds ÷ all reported GPU seconds",
      inputs: [...Object.entries(fleet.gpu_seconds).map(([state, seconds]) => /** @type {[string, string]} */ ([`${state} GPU s`, exact(/** @type {number} */ (seconds))])), span],
      note: `${exact(fleet.gpus_reporting)} GPUs report` },
  ];
}

/** Idle-capacity cost, as an amount and as a share. @param {any} summary @param {string} source @param {[string, string]} span @returns {Figure[]} */
function idleNow(summary, source, span) {
  const { currency, fleet: { cost_per_hour: whole, idle_capacity: idle, shown: amounts } } = summary, shown = shownIn(summary);
  const share = idle?.share_of_hardware_cost, hardware = amounts?.hardware_cost;
  const costs = summary.waterfall.filter((/** @type {any} */ row) => IDLE_CAPACITY.includes(row.bucket));
  return [
    { label: "Idle-capacity cost per hour, now", value: unitCost(idle?.cost_per_hour, currency), source, formula: `cost of ${IDLE_CAPACITY.map(title).join(", ")} GPUs, all components and energy included ÷ hours`,
      inputs: [...costs.map((/** @type {any} */ row) => [title(row.bucket), shown(row.shown.cost)]), ["sum", shown(amounts?.idle_capacity_cost)], span],
      note: `${percent(ratio(idle?.cost_per_hour ?? null, whole))} of the whole cost` },
    { label: "Idle share of hardware cost, now", value: percent(share?.total), source, formula: IDLE_SHARE,
      inputs: [["idle share of owned hardware", percent(share?.owned)], ["idle share of rented hardware", percent(share?.rented)],
        ["cost of owned hardware, amortized", shown(hardware?.owned)], ["cost of rented hardware", shown(hardware?.rented)], span],
      note: `owned ${percent(share?.owned)}, rented ${percent(share?.rented)}` },
  ];
}

/** Amounts of /v1/summary, with as many decimals as it says. @param {any} summary @returns {(value: number | null | undefined) => string} */
function shownIn(summary) {
  return (value) => money(value, summary.currency, summary.shown_decimals);
}

/** How the joules were measured, and how far off they may be. @param {any} fleet @returns {[string, string][]} */
function measured(fleet) {
  const methods = Object.entries(fleet.energy_by_method).map(([method, joules]) => /** @type {[string, string]} */ (
    [method === "counter" ? "of these from the GPUs' counters" : `of these integrated (${method})`, exact(/** @type {number} */ (joules))]));
  return [...methods, ["± by integrating, joules", exact(fleet.energy_error_joules)], ["GPU s without any energy", exact(fleet.energy_missing_gpu_seconds)]];
}

/** The figures of one row of a report, or its total. @param {any} row @param {any} report @param {string} source @returns {Figure[]} */
export function reported(row, report, source) {
  const { currency } = report, { shown } = row, costs = bucketCosts(row, report);
  const span = /** @type {[string, string]} */ (["over", `${report.start} to ${report.end}`]);
  const tokens = /** @type {[string, string]} */ (["tokens", exact(row.tokens)]);
  const waste = LOST.reduce((sum, name) => sum + costs[name], 0), active = row.active_gpu_hours, held = active + row.idle_gpu_hours;
  const bases = /** @type {[string, string][]} */ ([
    ["direct", "cost of the active time ÷ (tokens ÷ 1,000,000)"],
    ["allocated", "cost of active and idle time held ÷ (tokens ÷ 1,000,000)"],
    ["loaded", "allocated cost and a share, by use, of what the pool lost ÷ (tokens ÷ 1,000,000)"],
  ]);
  return [
    { label: "Tokens/s per watt", value: num(row.tokens_per_second_per_watt), source, formula: `tokens per second ÷ watts of the GPUs, idle time included; ${IDENTITY}`,
      inputs: [tokens, ["joules, GPUs", exact(row.joules_gpu)], ["joules with hosts", exact(row.joules_host)], ["joules at the meter", exact(row.joules_facility)], span],
      note: `= tokens per joule; ${num(row.tokens_per_joule_facility)} at the meter` },
    { label: "Idle-capacity cost", value: money(IDLE_CAPACITY.reduce((sum, name) => sum + costs[name], 0), currency), source, formula: `cost of ${IDLE_CAPACITY.map(title).join(", ")} GPUs, all components and energy included`,
      inputs: [...IDLE_CAPACITY.map((name) => /** @type {[string, string]} */ ([title(name), money(costs[name], currency)])), span],
      note: `${percent(ratio(IDLE_CAPACITY.reduce((sum, name) => sum + costs[name], 0), shown.cost))} of the whole cost` },
    { label: "Idle share of hardware cost", value: percent(row === report.total ? report.idle_capacity.share_of_hardware_cost.total : row.idle_capacity_share_of_hardware_cost), source, formula: IDLE_SHARE,
      inputs: [["hardware cost", money(shown.hardware_cost, currency)], ["of it owned, amortized", money(shown.hardware_cost_owned, currency)], ["of it rented", money(shown.hardware_cost_rented, currency)], span],
      note: `of ${money(shown.hardware_cost, currency)} hardware cost` },
    costFigure("Cost", row, report, source),
    { label: "Lost", value: money(waste, currency), source, formula: LOST.map(title).join(" + "), note: percent(ratio(waste, shown.cost)) + " of the cost",
      inputs: [...LOST.map((name) => /** @type {[string, string]} */ ([title(name), money(costs[name], currency)])), span] },
    { label: "Tokens", value: num(row.tokens), source, formula: "prompt computed + prompt cached + prompt unsplit + completion",
      inputs: [...KINDS.map((kind) => /** @type {[string, string]} */ ([title(kind), exact(row[kind])])), ["requests", exact(row.requests)], span] },
    ...bases.map(([basis, formula]) => ({ label: `Cost per million tokens, ${basis}`, value: unitCost(row[`cost_per_mtok_${basis}`], currency), source, formula,
      inputs: /** @type {[string, string][]} */ ([[`${basis} cost`, row.tokens ? money(row[`cost_per_mtok_${basis}`] * row.tokens / 1e6, currency) : "–"], tokens, span]) })),
    { label: "Cost per request, loaded", value: unitCost(row.cost_per_request_loaded, currency), source, formula: "allocated cost and a share, by use, of what the pool lost ÷ requests",
      inputs: [["requests", exact(row.requests)], span] },
    { label: "Active while held", value: percent(ratio(active, held)), source, formula: "active GPU-hours ÷ (active + idle GPU-hours)",
      inputs: [["active GPU-hours", exact(active)], ["idle GPU-hours", exact(row.idle_gpu_hours)], span], note: `${num(held)} GPU-hours held` },
    { label: "Yield against reference", value: percent(ratio(row.cost_productive, row.cost_productive + row.cost_under_yield)), source,
      formula: "productive cost ÷ (productive + under-yield cost); time without a reference pace counts as productive",
      inputs: [["productive", money(shown.cost_productive, currency)], ["under-yield", money(shown.cost_under_yield, currency)], ["GPU-hours without a reference", exact(row.unrated_gpu_hours)], span] },
  ];
}

/** @param {string} label @param {any} row @param {any} report @param {string} source @returns {Figure} */
export function costFigure(label, row, report, source) {
  const { shown } = row, parts = COSTS.filter((name) => row[`cost_${name}`]);
  return { label, value: money(shown.cost, report.currency), source, formula: parts.map(title).join(" + ") || "no cost",
    inputs: [...parts.map((name) => /** @type {[string, string]} */ ([title(name), money(shown[`cost_${name}`], report.currency)])),
      ["of it energy", money(shown.energy_cost, report.currency)], ["price book", report.price_book ?? "none"], ["over", `${report.start} to ${report.end}`]] };
}

/** One part of a row's cost. @param {string} part @param {any} row @param {any} report @param {string} source @returns {Figure} */
export function partFigure(part, row, report, source) {
  const name = title(part), hours = row[`${part}_gpu_hours`];
  return { label: `Cost, ${name}`, value: money(row.shown[`cost_${part}`], report.currency), source, formula: formulaOf(part),
    inputs: [...(hours === undefined ? [] : /** @type {[string, string][]} */ ([[`${name} GPU-hours`, exact(hours)]])), ["whole cost", money(row.shown.cost, report.currency)],
      ["price book", report.price_book ?? "none"], ["over", `${report.start} to ${report.end}`]] };
}

/** The steps of a report's waterfall. @param {any} report @param {string} source @returns {{name: string, amount: number, hours: string, figure: Figure}[]} */
export function steps(report, source) {
  return report.waterfall.map((/** @type {any} */ row) => ({ name: row.bucket, amount: row.cost, hours: row.gpu_hours === null ? "" : `${Math.round(row.gpu_hours).toLocaleString("en")} GPU-h`,
    figure: partFigure(row.bucket, { shown: { cost: report.total.shown.cost, [`cost_${row.bucket}`]: row.shown.cost }, [`${row.bucket}_gpu_hours`]: row.gpu_hours ?? undefined }, report, source) }));
}

/** The steps of the live waterfall. @param {any} summary @param {string} source @returns {{name: string, amount: number, hours: string, figure: Figure}[]} */
export function liveSteps(summary, source) {
  const shown = shownIn(summary);
  return summary.waterfall.map((/** @type {any} */ row) => ({ name: row.bucket, amount: row.cost, hours: `${num(row.gpu_hours)} GPU-h`,
    figure: { label: `Cost, ${title(row.bucket)}`, value: shown(row.shown.cost), source, formula: formulaOf(row.bucket),
      inputs: [["GPU-hours", exact(row.gpu_hours)], ["capacity", shown(row.shown.capacity_cost)], ["energy", shown(row.shown.energy_cost)],
        ["over", `${summary.start} to ${summary.end}`]] } }));
}

/** What a workload costs and yields now. @param {any} row @param {any} summary @param {string} source @returns {Record<"yield" | "cost" | "idle" | "loaded" | "wait", Figure>} */
export function liveWorkload(row, summary, source) {
  const { currency } = summary, hours = summary.seconds / 3600, tokens = /** @type {[string, string]} */ (["tokens", exact(total(row.tokens))]);
  const span = /** @type {[string, string]} */ (["over", `${summary.start} to ${summary.end}`]);
  const idle = row.cost.allocated === null ? null : row.cost.allocated - row.cost.direct;
  const waits = row.latency.first_token;
  return {
    yield: { label: "Tokens/s per watt", value: num(row.tokens_per_second_per_watt.total), source, formula: `tokens per second ÷ watts of the GPUs while held; ${IDENTITY}`, inputs: [tokens, ["joules", exact(row.energy_joules)], span] },
    cost: { label: "Cost per hour", value: unitCost(ratio(row.cost.allocated, hours), currency), source, formula: "cost of active and idle time held ÷ hours", inputs: [["cost", unitCost(row.cost.allocated, currency)], span] },
    idle: { label: "Idle cost per hour", value: unitCost(ratio(idle, hours), currency), source, formula: "cost of the idle time held ÷ hours", inputs: [["idle cost", unitCost(idle, currency)], ["idle GPU seconds", exact(row.gpu_seconds.idle)], span] },
    loaded: { label: "Cost per million tokens, loaded", value: unitCost(row.cost_per_million_tokens.total.loaded, currency), source, formula: "allocated cost and a share of what the pool lost ÷ (tokens ÷ 1,000,000)",
      inputs: [["loaded cost", unitCost(row.cost.loaded, currency)], tokens, span] },
    wait: { label: "To the first token, p95, at most", value: waits?.p95_ms ? `${num(waits.p95_ms / 1000)} s` : "–", source, formula: "upper edge of the bucket that 95 % of the requests do not exceed",
      inputs: [["requests observed", exact(waits ? waits.observations : null)], ["mean", waits ? `${num(waits.mean_ms / 1000)} s` : "–"], span] },
  };
}

/** GPU time held. @param {any} row @param {any} report @param {string} source @returns {Figure} */
export function heldFigure(row, report, source) {
  return { label: "GPU-hours held", value: num(row.active_gpu_hours + row.idle_gpu_hours), source, formula: "active + idle GPU-hours",
    inputs: [["active GPU-hours", exact(row.active_gpu_hours)], ["idle GPU-hours", exact(row.idle_gpu_hours)], ["over", `${report.start} to ${report.end}`]] };
}

/** @param {any} row @param {any} report @param {string} source @returns {Figure} */
export function lostShareFigure(row, report, source) {
  const lost = LOST.reduce((sum, name) => sum + row.shown[`cost_${name}`], 0);
  return { label: "Lost of the cost", value: percent(ratio(wasted(row), row.cost)), source, formula: `(${LOST.map(title).join(" + ")}) ÷ cost`,
    inputs: [["lost", money(lost, report.currency)], ["cost", money(row.shown.cost, report.currency)], ["over", `${report.start} to ${report.end}`]] };
}

/**
 * What a row cost by bucket, in cents. The total's is the waterfall beside it: where cost was lost, whoever carries it.
 * @param {any} row @param {any} report @returns {Record<string, number>}
 */
function bucketCosts(row, report) {
  const total = row === report.total;
  return Object.fromEntries(COSTS.map((name) => [name, (total ? report.waterfall.find((/** @type {any} */ step) => step.bucket === name)?.shown.cost : row.shown[`cost_${name}`]) ?? 0]));
}

/** What made no tokens, or fewer than it could. @param {any} row @returns {number} */
export function wasted(row) {
  return LOST.reduce((sum, name) => sum + row[`cost_${name}`], 0);
}

/** What is known of it. @param {Record<string, number | null>} values @returns {number} */
function total(values) {
  return Object.values(values).reduce((/** @type {number} */ sum, value) => sum + (value ?? 0), 0);
}
