// @ts-check
// Shadow use of a month: vendors and own GPUs that are used or paid for, and that nothing explains.
import { get } from "../api.js";
import { el, exact, money, to } from "../dom.js";
import { months } from "../periods.js";
import { table } from "../tables.js";

const TOP = 1000;
const LEVELS = ["paid", "used", "connected", "seen"];
const MEANINGS = {
  paid: "money that nothing observed being used",
  used: "tokens that no bill accounts for, and own GPUs that no registered server or rule explains",
  connected: "connections to a vendor, in logs of proxies",
  seen: "lookups of a vendor's name, refused connections, names of key variables",
};

/** @param {import("../main.js").Page} page @param {string} [month] */
export async function shadow(page, month = months()[0]) {
  const body = el("div", {}, el("p", { class: "quiet" }, "Calculating…"));
  page.show(el("h1", {}, `Shadow use in ${month}`),
    el("div", { class: "controls" }, el("select", { "aria-label": "Month", onchange: (/** @type {any} */ event) => { location.hash = to("shadow", event.target.value); } },
      ...[...new Set([...months(), month])].map((value) => el("option", { value, selected: value === month }, value)))),
    body);
  const found = await get("shadow", { period: month, top: TOP });
  const notes = [`${found.start} to ${found.end}`, found.hosts];
  if (found.sanctioned) notes.push(`${exact(found.sanctioned)} times what was found is sanctioned`);
  if (found.more) notes.push(`${exact(found.more)} more findings are not listed`);
  const number = (/** @type {string} */ name, /** @type {string} */ label) => ({ name: label, number: true, value: (/** @type {any} */ row) => row[name], show: (/** @type {any} */ row) => (row[name] === null ? "–" : exact(row[name])) });
  body.replaceChildren(
    el("p", { class: "quiet" }, notes.join(" · ")),
    table(`Findings of ${month}, the strongest level first`, found.findings, [
      { name: "level", value: (/** @type {any} */ row) => LEVELS.indexOf(row.level), show: (/** @type {any} */ row) => row.level },
      { name: "evidence", value: (/** @type {any} */ row) => row.evidence },
      { name: "vendor", value: (/** @type {any} */ row) => row.vendor },
      { name: "who", value: subject },
      { name: "first", value: (/** @type {any} */ row) => row.first_day },
      { name: "last", value: (/** @type {any} */ row) => row.last_day },
      number("count", "count"), number("tokens", "tokens"), number("bytes_received", "bytes received"), number("bytes_sent", "bytes sent"), number("gpu_hours", "GPU-hours"),
      { name: "cost", number: true, value: (/** @type {any} */ row) => row.cost, show: (/** @type {any} */ row) => (row.cost === null ? "unpriced" : money(row.cost, row.currency)) },
    ], 0),
    el("h2", {}, "What the levels mean"),
    el("p", {}, "Levels are other evidence, perhaps of the same use: never add them up."),
    el("ul", {}, ...Object.entries(MEANINGS).map(([level, meaning]) => el("li", {}, el("strong", {}, level), `: ${meaning}`))),
    el("h2", {}, "What this cannot show"),
    el("ul", {}, ...found.limits.map((/** @type {string} */ limit) => el("li", {}, limit))),
  );
}

/** @param {any} row */
function subject(row) {
  const known = [row.team, row.workload, row.person].filter(Boolean);
  return known.join(", ") || (row.account ? `account ${row.account}` : "not known");
}
