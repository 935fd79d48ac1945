// @ts-check
// The fleet: its headline figures now and over a longer time, the waterfall, the map, and where most is lost.
import { address, get } from "../api.js";
import { COSTS } from "../buckets.js";
import { stacked, waterfall } from "../charts.js";
import { dimensions, isOfTeams, remember } from "../dimensions.js";
import { el, exact, money, num, percent, ratio, title, to } from "../dom.js";
import { costFigure, live, liveSteps, reported, steps } from "../explained.js";
import { figure, inline } from "../figures.js";
import { fleetMap } from "../map.js";
import { chooser, period } from "../periods.js";
import { table } from "../tables.js";
import { dimensionTable, workloadsNow, workloadTable } from "./lists.js";

const LOSERS = 50;

/** @param {import("../main.js").Page} page */
export async function overview(page) {
  if (await isOfTeams()) {
    location.replace("#/report");
    return;
  }
  const now = el("div", { class: "figures" }), map = el("div"), past = el("div"), bought = el("div"), losers = el("div");
  page.show(el("h1", {}, "Fleet"), now, past, bought, el("h2", {}, "Every GPU"), map, losers);

  /** @type {any} */
  let latest = null;
  let hoursClosed = true;

  /** Until the first hour has closed there are no figures over days: those of the live window are shown. */
  function beginning() {
    const source = address("summary");
    past.replaceChildren(
      el("p", { class: "panel" }, "No hour has closed yet. Figures over days, under-yield and chargeback begin with the next full hour. This is the live window."),
      el("section", { class: "panel", "aria-label": "Waterfall" }, el("h2", {}, `Where ${money(latest.fleet.shown?.cost, latest.currency, latest.shown_decimals)} went in ${latest.seconds} s`), waterfall(liveSteps(latest, source))));
    losers.replaceChildren(el("h2", {}, "Workloads now"), workloadsNow(latest, source));
  }

  async function present() {
    const source = address("summary");
    const [summary, fleet] = await Promise.all([get("summary"), get("fleet")]);
    page.asOf(summary.end);
    latest = summary;
    remember(summary);
    bought.replaceChildren(...boughtThisMonth(summary, source));
    if (!fleet.gpus.node.length && !summary.fleet.gpus_reporting) {
      now.replaceChildren(el("p", { class: "panel" }, "No data yet. Start an agent with ", el("code", {}, `--set collector_url=${location.origin}`), ", or try ", el("code", {}, "tokenyield-collector demo"), "."));
      return;
    }
    now.replaceChildren(...live(summary, source).map(figure), ...pending(summary.history));
    /** @type {Map<string, number>} */
    const yields = new Map();
    for (const row of summary.workloads) if (row.tokens_per_second_per_watt.total) yields.set(row.workload, row.tokens_per_second_per_watt.total);
    const drawn = fleetMap(fleet, yields);
    map.replaceChildren(drawn.host);
    page.onTheme(drawn.redraw);
    if (!hoursClosed) await history();
  }

  async function history() {
    const { grain, name, text } = period();
    const query = { period: text(), by: grain };
    const parts = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
    const head = el("div", { class: "controls" }, el("h2", {}, "Period"), chooser(() => page.run(history)));
    if (hoursClosed) past.replaceChildren(head, parts);
    const report = await get("report", query);
    hoursClosed = report.rows.length > 0;
    if (!hoursClosed) {
      if (latest?.fleet.gpus_reporting) beginning();
      else past.replaceChildren();
      return;
    }
    past.replaceChildren(head, parts);
    const source = address("report", query);
    const days = report.rows.map((/** @type {any} */ row) => row[grain]);
    parts.replaceChildren(
      el("div", { class: "figures" }, ...reported(report.total, report, source).map(figure)),
      el("div", { class: "columns" },
        el("section", { class: "panel", "aria-label": "Waterfall" }, el("h3", {}, `Where ${money(report.total.shown.cost, report.currency)} went: ${name.toLowerCase()}`),
          waterfall(steps(report, source)),
          el("p", {}, "Sum: ", inline(costFigure("Cost of the fleet", report.total, report, source)))),
        stacked(`Cost by ${grain}`, days, COSTS.map((part) => ({ name: part, values: report.rows.map((/** @type {any} */ row) => row.shown[`cost_${part}`]) })), report.currency, (value) => money(value, ""))),
      el("p", { class: "quiet" }, report.notes.join(" · ")),
    );
    losers.replaceChildren(el("h2", {}, "Workloads by waste"), await workloadTable(text(), {}, LOSERS));
    const [first] = await dimensions();
    losers.append(el("h2", {}, `Waste by ${title(first)}`), await dimensionTable(first, text(), {}, LOSERS));
  }

  await present();
  page.every(15_000, present);
  page.run(history);
}

/**
 * What vendors cost beside the fleet in this month, and how much of that was observed in use.
 * @param {any} summary
 * @param {string} source
 * @returns {Node[]}
 */
function boughtThisMonth({ bought, currency }, source) {
  if (!bought.length) return [];
  const cost = (/** @type {any} */ row, /** @type {string} */ label, /** @type {number} */ value) => inline({
    label: `${label}: ${row.vendor}`, value: money(value, currency),
    formula: "cost of the month = what a finer source observed in use + what is billed and was not observed",
    inputs: [["cost", `${exact(row.cost)} ${currency}`], ["not observed", `${exact(row.cost_not_observed)} ${currency}`], ["tokens", exact(row.tokens)], ["requests", exact(row.requests)], ["tokens without a price", exact(row.price_missing_tokens)]],
    source,
  });
  return [el("h2", {}, `Bought in ${bought[0].month}`), table("What vendors cost up to now, beside the fleet", bought, [
    { name: "vendor", value: (/** @type {any} */ row) => row.vendor },
    { name: "cost", number: true, value: (/** @type {any} */ row) => row.cost, show: (/** @type {any} */ row) => cost(row, "Cost", row.cost) },
    { name: "not observed", number: true, value: (/** @type {any} */ row) => row.cost_not_observed, show: (/** @type {any} */ row) => cost(row, "Not observed", row.cost_not_observed) },
    { name: "observed", number: true, value: (/** @type {any} */ row) => ratio(row.cost - row.cost_not_observed, row.cost), show: (/** @type {any} */ row) => percent(ratio(row.cost - row.cost_not_observed, row.cost)) },
    { name: "tokens", number: true, value: (/** @type {any} */ row) => row.tokens, show: (/** @type {any} */ row) => num(row.tokens) },
  ], 1), el("p", {}, el("a", { href: to("report", bought[0].month, "vendor,model") }, "By vendor and model"))];
}

/**
 * What of the past is still being computed, and what is shown meanwhile.
 * @param {any} history
 * @returns {Node[]}
 */
function pending(history) {
  const { policy_is_current: isCurrent, months_done: done, months, hours_to_count: hours } = history, notes = [];
  if (!isCurrent) notes.push(`Prices or rules have changed: figures to date are those of before until ${months} months are computed, ${done} are done.`);
  if (hours) notes.push(`${hours} hours are still to be counted; counters of /metrics are missing until then.`);
  return notes.map((note) => el("p", { class: "panel", role: "status" }, note));
}
