// @ts-check
// The report of a month, by the columns chosen, and its files.
import { address, download, get } from "../api.js";
import { COSTS } from "../buckets.js";
import { waterfall } from "../charts.js";
import { dimensions } from "../dimensions.js";
import { el, exact, money, percent, title } from "../dom.js";
import { costFigure, partFigure, reported, steps } from "../explained.js";
import { figure, inline } from "../figures.js";
import { months } from "../periods.js";
import { table } from "../tables.js";

const FORMATS = [["csv", "CSV"], ["parquet", "Parquet"], ["json", "JSON"], ["html", "HTML"], ["focus", "FOCUS"]];

/** @param {string[]} names of the dimensions */
function choices(names) {
  return [`${names[0]},model`, ...(names.length > 1 ? [names.join(",")] : []), "workload,model", `${names[0]},vendor`, "vendor,model", "pool", "cluster,node", "day", "tier"];
}

/** An amount of a budget: money, or tokens. @param {number | null | undefined} value @param {string} unit */
function spendable(value, unit) {
  return unit !== "tokens" ? money(value, unit) : value === null || value === undefined ? "–" : `${exact(value)} tokens`;
}

/** @param {import("../main.js").Page} page @param {string} [month] @param {string} [columnsChosen] the first dimension and the model by default */
export async function report(page, month = months()[0], columnsChosen) {
  const offered = choices(await dimensions()), by = columnsChosen ?? offered[0];
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  const choose = (/** @type {string} */ label, /** @type {string[]} */ values, /** @type {string} */ chosen) =>
    el("select", { "aria-label": label, onchange: () => { location.hash = `#/report/${picked.month.value}/${encodeURIComponent(picked.by.value)}`; } },
      ...[...new Set([...values, chosen])].map((value) => el("option", { value, selected: value === chosen }, value)));
  const picked = { month: choose("Month", months(), month), by: choose("By", offered, by) };
  const query = { period: month, by };
  page.show(el("h1", {}, `Report of ${month}`),
    el("div", { class: "controls" }, picked.month, el("label", {}, "by ", picked.by),
      ...FORMATS.map(([format, name]) => el("button", { type: "button", onclick: () => page.run(() => download(address("report", { ...query, format }), `tokenyield-${month}.${format === "focus" ? "focus.csv" : format}`)) }, name))),
    body);
  const [result, budgets] = await Promise.all([get("report", query), get("budgets", { month })]);
  const source = address("report", query), columns = by.split(",");
  const of = (/** @type {any} */ row, /** @type {string} */ label) => /** @type {import("../figures.js").Figure} */ (reported(row, result, source).find((one) => one.label === label));
  const shown = [`${result.start} to ${result.end}`, result.version === null ? result.state : `${result.state}, version ${result.version}`, `price book ${result.price_book ?? "none"}`, ...result.notes];
  body.replaceChildren(
    el("p", { class: "quiet" }, shown.join(" · ")),
    el("div", { class: "figures" }, ...reported(result.total, result, source).map(figure)),
    el("section", { class: "panel", "aria-label": "Waterfall" }, waterfall(steps(result, source))),
    el("h2", {}, "Rows"),
    table(`Report of ${month} by ${columns.join(" and ")}`, result.rows, [
      ...columns.map((name) => ({ name, value: (/** @type {any} */ row) => row[name] || "–" })),
      { name: "cost", number: true, value: (/** @type {any} */ row) => row.cost, show: (/** @type {any} */ row) => inline(costFigure("Cost", row, result, source)) },
      ...COSTS.map((part) => ({ name: title(part), number: true, value: (/** @type {any} */ row) => row[`cost_${part}`], show: (/** @type {any} */ row) => inline(partFigure(part, row, result, source)) })),
      { name: "tokens", number: true, value: (/** @type {any} */ row) => row.tokens, show: (/** @type {any} */ row) => inline(of(row, "Tokens")) },
      { name: `${result.currency}/Mtok loaded`, number: true, value: (/** @type {any} */ row) => row.cost_per_mtok_loaded, show: (/** @type {any} */ row) => inline(of(row, "Cost per million tokens, loaded")) },
      { name: `${result.currency}/request`, number: true, value: (/** @type {any} */ row) => row.cost_per_request_loaded, show: (/** @type {any} */ row) => inline(of(row, "Cost per request, loaded")) },
    ], columns.length, result.total),
    ...(budgets.budgets.length ? [el("h2", {}, "Budgets"), table(`Budgets in ${month}`, budgets.budgets, [
      { name: "budget", value: (/** @type {any} */ row) => row.name },
      { name: "monthly", number: true, value: (/** @type {any} */ row) => row.monthly, show: (/** @type {any} */ row) => spendable(row.shown.monthly, row.unit) },
      { name: "spent", number: true, value: (/** @type {any} */ row) => row.spent, show: (/** @type {any} */ row) => spendable(row.shown.spent, row.unit) },
      { name: "%", number: true, value: (/** @type {any} */ row) => row.spent_percent, show: (/** @type {any} */ row) => percent(row.spent_percent / 100) },
      { name: "step", number: true, value: (/** @type {any} */ row) => row.step, show: (/** @type {any} */ row) => (row.step === null ? "–" : `${row.step} %`) },
      { name: "forecast", number: true, value: (/** @type {any} */ row) => row.forecast?.expected ?? null, show: (/** @type {any} */ row) => spendable(row.shown.forecast?.expected, row.unit) },
      { name: "state", value: (/** @type {any} */ row) => row.state },
    ], 2)] : []),
  );
}
