// @ts-check
// What the month and the time after it will come to: quantiles, a fan, and how good such forecasts were so far.
import { address, get } from "../api.js";
import { fan } from "../charts.js";
import { dimensions } from "../dimensions.js";
import { el, exact, money, num, percent, to } from "../dom.js";
import { figure, inline } from "../figures.js";
import { table } from "../tables.js";

const MEASURES = ["cost", "tokens", "energy"];
const TOP = 50, SHOWN_DAYS = 60, QUARTER_DAYS = 91, DAY_MS = 86_400_000;

/** @param {import("../main.js").Page} page @param {string} [measure] @param {string} [columns] */
export async function forecast(page, measure = "cost", columns) {
  const names = await dimensions(), grains = [...names, "model", "workload", "vendor", "pool"], by = columns ?? names[0];
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  const choose = (/** @type {string} */ label, /** @type {string[]} */ values, /** @type {string} */ chosen, /** @type {(value: string) => string} */ address) =>
    el("label", {}, `${label} `, el("select", { "aria-label": label, onchange: (/** @type {any} */ event) => { location.hash = address(event.target.value); } },
      ...[...new Set([...values, chosen])].map((value) => el("option", { value, selected: value === chosen }, value))));
  page.show(el("h1", {}, "Forecast"),
    el("div", { class: "controls" }, choose("of", MEASURES, measure, (value) => to("forecast", value, by)), choose("by", grains, by, (value) => to("forecast", measure, value))),
    body);
  const query = { measure, by, top: TOP };
  const found = await get("forecast", query);
  body.replaceChildren(...drawn(found, address("forecast", query)));
}

/** @param {any} found the answer of /v1/forecast @param {string} source @returns {HTMLElement[]} */
function drawn(found, source) {
  const { total, unit, month } = found, column = found.by[0];
  const written = (/** @type {number} */ value) => (found.measure === "cost" ? money(value, unit) : `${num(value, 4)} ${unit}`);
  const band = (/** @type {any} */ one) => `80 % within ${written(one.p10)} to ${written(one.p90)}`;
  const of = (/** @type {string} */ label, /** @type {any} */ row, /** @type {any} */ one) => ({
    label, value: written(one.p50), note: band(one), formula: "median; the band is made of the errors of such totals at earlier days",
    inputs: /** @type {[string, string][]} */ ([["10 %", exact(one.p10)], ["50 %", exact(one.p50)], ["90 %", exact(one.p90)], ["days to come", exact(one.days)], ["method", row.method], ["days of history", exact(row.history_days)], ["back-test", tested(row)]]),
    source,
  });
  const head = [`as known up to ${found.as_of}`, ...found.notes];
  if (total.why) return [el("p", { class: "quiet" }, head.join(" · ")), el("p", { class: "panel" }, `Not forecast: ${total.why}.`)];
  const days = (/** @type {number} */ first, /** @type {number} */ count) => Array.from({ length: count }, (_, i) => new Date(Date.parse(found.as_of) + (first + i) * DAY_MS).toISOString().slice(0, 10));
  const came = found.history.slice(-SHOWN_DAYS);
  return [
    el("p", { class: "quiet" }, head.join(" · ")),
    el("div", { class: "figures" }, figure({ label: `${month} to date`, value: written(total.to_date), formula: "what the month has up to the last complete day", inputs: [["to date", exact(total.to_date)]], source }),
      figure(of(`End of ${month}`, total, total.month_end)), ...total.totals.map((/** @type {any} */ one) => figure(of(`Next ${one.days} days`, total, one)))),
    el("p", {}, `Back-test: ${tested(total)}.`),
    el("h2", {}, "Days"),
    fan("By day", [...days(1 - came.length, came.length), ...days(1, found.path.length)], came, found.path, unit),
    el("h2", {}, "Rows"),
    table(`Each forecast by itself, by ${column}; they do not add up`, found.rows, [
      { name: column, value: (/** @type {any} */ row) => row.by[column] || "–" },
      { name: "to date", number: true, value: (/** @type {any} */ row) => row.to_date, show: (/** @type {any} */ row) => written(row.to_date) },
      { name: `end of ${month}`, number: true, value: (/** @type {any} */ row) => row.month_end?.p50 ?? null, show: (/** @type {any} */ row) => (row.month_end ? inline(of(`${row.by[column]}, end of ${month}`, row, row.month_end)) : "–") },
      { name: "80 % within", value: (/** @type {any} */ row) => row.month_end?.p90 ?? null, show: (/** @type {any} */ row) => (row.month_end ? `${written(row.month_end.p10)} to ${written(row.month_end.p90)}` : "–") },
      { name: `next ${QUARTER_DAYS} days`, number: true, value: (/** @type {any} */ row) => quarter(row)?.p50 ?? null, show: (/** @type {any} */ row) => (quarter(row) ? inline(of(`${row.by[column]}, next ${QUARTER_DAYS} days`, row, quarter(row))) : "–") },
      { name: "back-test", value: (/** @type {any} */ row) => row.back_test?.median_error ?? null, show: briefly },
    ], 2),
  ];
}

/** The total of a quarter, where there is enough history for it. @param {any} row */
function quarter(row) {
  return row.totals.find((/** @type {any} */ one) => one.days === QUARTER_DAYS);
}

/** The same in a table. @param {any} row */
function briefly(row) {
  const test = row.back_test;
  return row.why ?? (test ? `${test.days} days: off by ${percent(test.median_error)}, held ${test.within} of ${test.origins}` : "none");
}

/** How such forecasts did so far, in words. @param {any} row */
function tested(row) {
  if (row.why) return row.why;
  const test = row.back_test;
  return test ? `totals of ${test.days} days were off by ${percent(test.median_error)} in the median, and the band held ${test.within} of ${test.origins}` : `none: ${row.method}, ${row.history_days} days of history`;
}
