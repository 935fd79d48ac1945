// @ts-check
// Why one period cost more or less than another: a sentence, the effects as a bridge, the rows that moved most.
import { address, get } from "../api.js";
import { dimensions } from "../dimensions.js";
import { el, exact, money, to } from "../dom.js";
import { inline } from "../figures.js";
import { daysBack, months } from "../periods.js";
import { table } from "../tables.js";

const TOP = 200;

/** What is offered to be compared: words, the period, the one against which. @returns {[string, string, string][]} */
function comparisons() {
  const [month, last, before] = months();
  return [
    ["This month against the last", month, last],
    ["Last month against the one before", last, before],
    ["Last 7 days against the 7 before", `${daysBack(7)}..${daysBack(1)}`, `${daysBack(14)}..${daysBack(8)}`],
    ["Yesterday against the same day a week before", daysBack(1), daysBack(8)],
    ["Yesterday against the day before", daysBack(1), daysBack(2)],
  ];
}

/** @param {import("../main.js").Page} page @param {string} [period] @param {string} [against] @param {string} [columns] */
export async function changes(page, period, against, columns) {
  const offered = comparisons(), names = await dimensions();
  const grains = [`${names[0]},model`, names[0], "workload", "vendor,model", "pool", "model"];
  const chosen = { period: period ?? offered[0][1], against: against ?? offered[0][2], by: columns ?? grains[0] };
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  const open = (/** @type {Partial<typeof chosen>} */ changed) => {
    const next = { ...chosen, ...changed };
    location.hash = to("changes", next.period, next.against, next.by);
  };
  const field = (/** @type {"period" | "against"} */ name, /** @type {string} */ label) => el("label", {}, `${label} `,
    el("input", { value: chosen[name], size: 22, maxlength: 40, spellcheck: "false", onchange: (/** @type {any} */ event) => open({ [name]: event.target.value.trim() }) }));
  const known = offered.findIndex(([, one, other]) => one === chosen.period && other === chosen.against);
  page.show(el("h1", {}, "What changed"),
    el("div", { class: "controls" },
      el("select", { "aria-label": "Compare", onchange: (/** @type {any} */ event) => open({ period: offered[event.target.value][1], against: offered[event.target.value][2] }) },
        ...(known < 0 ? [el("option", { selected: true, disabled: true }, "Other periods")] : []),
        ...offered.map(([text], i) => el("option", { value: i, selected: i === known }, text))),
      field("period", "period"), field("against", "against"),
      el("label", {}, "by ", el("select", { "aria-label": "By", onchange: (/** @type {any} */ event) => open({ by: event.target.value }) },
        ...[...new Set([...grains, chosen.by])].map((value) => el("option", { value, selected: value === chosen.by }, value))))),
    body);
  const query = { ...chosen, top: TOP };
  const found = await get("explain", query);
  body.replaceChildren(...drawn(found, address("explain", query)));
}

/** @param {any} found the answer of /v1/explain @param {string} source @returns {HTMLElement[]} */
function drawn(found, source) {
  const { currency, total: { shown } } = found, columns = /** @type {string[]} */ (found.by);
  const titles = Object.fromEntries(found.effects.map((/** @type {any} */ one) => [one.effect, one.title]));
  const amount = (/** @type {any} */ row, /** @type {string} */ name, /** @type {string} */ label) => inline({
    label: `${label}: ${columns.map((column) => row.by[column]).join(", ")}`, value: name === "difference" ? signed(row.shown[name], currency) : money(row.shown[name], currency),
    formula: "cost of the period = cost of the other + effects",
    inputs: [["cost before", money(row.shown.cost_from, currency)], ...Object.entries(row.shown.effects).map(([effect, value]) => /** @type {[string, string]} */ ([titles[effect] ?? effect, signed(/** @type {number} */ (value), currency)])), ["cost, exactly", exact(row.cost_to)]],
    source,
  });
  return [
    el("p", { class: "words" }, found.text),
    el("p", { class: "quiet" }, [`${found.period.start} to ${found.period.end}`, `against ${found.against.start} to ${found.against.end}`, ...found.notes].join(" · ")),
    el("section", { class: "panel", "aria-label": "Effects" }, bridge(found, currency)),
    el("h2", {}, "Rows"),
    table(`Rows that moved most, by ${columns.join(" and ")}`, found.rows, [
      ...columns.map((name) => ({ name, value: (/** @type {any} */ row) => row.by[name] || "–" })),
      { name: found.against.name, number: true, value: (row) => row.cost_from, show: (row) => amount(row, "cost_from", found.against.name) },
      { name: found.period.name, number: true, value: (row) => row.cost_to, show: (row) => amount(row, "cost_to", found.period.name) },
      { name: "difference", number: true, value: (row) => row.difference, show: (row) => amount(row, "difference", "Difference") },
      ...found.effects.map((/** @type {any} */ one) => ({ name: one.title, number: true, value: (/** @type {any} */ row) => row.effects[one.effect] ?? 0, show: (/** @type {any} */ row) => (row.shown.effects[one.effect] ? signed(row.shown.effects[one.effect], "") : "") })),
    ], columns.length + 2, { by: {}, ...found.total, shown }),
  ];
}

/** From the cost of one period to that of the other; more costs to the right of the middle, less to the left. @param {any} found @param {string} currency */
function bridge(found, currency) {
  const { cost_from: from, cost_to: until } = found.total.shown;
  const most = Math.max(...found.effects.map((/** @type {any} */ one) => Math.abs(one.amount))) || 1;
  const bar = (/** @type {number} */ amount) => {
    const piece = el("span", { class: amount > 0 ? "more" : "less" }), width = (Math.abs(amount) / most) * 50;
    piece.style.marginLeft = `${amount > 0 ? 50 : 50 - width}%`;
    piece.style.width = `${width}%`;
    return el("span", { class: "bar", "aria-hidden": "true" }, piece);
  };
  const whole = (/** @type {string} */ name, /** @type {number} */ cost) => el("li", { class: "whole" }, el("strong", {}, name), el("strong", { class: "amount" }, money(cost, currency)));
  return el("ul", { class: "waterfall bridge" },
    whole(found.against.name, from),
    ...found.effects.map((/** @type {any} */ one) => el("li", { title: one.meaning }, el("span", {}, one.title), bar(one.amount), el("span", { class: "amount" }, signed(one.amount, currency)))),
    whole(found.period.name, until));
}

/** @param {number} value @param {string} currency */
function signed(value, currency) {
  return `${value > 0 ? "+" : ""}${money(value, currency)}`;
}
