// @ts-check
// Tables that sort by a click on a column's head.
import { el } from "./dom.js";

const ROWS_SHOWN = 50;

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} name
 * @property {(row: Row) => number | string | null} value what is sorted by
 * @property {(row: Row) => Node | string} [show] what is shown; the value itself by default
 * @property {boolean} [number] right-aligned
 */

/**
 * @template Row
 * @param {string} caption
 * @param {Row[]} rows
 * @param {Column<Row>[]} columns
 * @param {number} sortBy position of the column sorted by at first; numbers the largest first
 * @param {Row} [total] the sum of all rows, shown below them
 */
export function table(caption, rows, columns, sortBy, total) {
  let at = sortBy, down = !!columns[sortBy].number, all = false;
  const body = el("tbody"), more = el("button", { type: "button", onclick: () => { all = true; draw(); } });
  const foot = total && rows.length ? el("tfoot", {}, el("tr", {}, ...columns.map((column, i) => el(i ? "td" : "th", { class: column.number && "number", scope: i ? null : "row" },
    i ? (column.number ? shownIn(column, total) : "") : "Sum")))) : null;
  const heads = columns.map((column, i) => el("th", { scope: "col", class: column.number && "number" },
    el("button", { type: "button", onclick: () => { down = at === i ? !down : !!column.number; at = i; draw(); } }, column.name)));
  const made = el("div", {}, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "quiet" }, caption), el("thead", {}, el("tr", {}, ...heads)), body, foot)), more);

  function draw() {
    const { value } = columns[at];
    const sorted = [...rows].sort((a, b) => compare(value(a), value(b)) * (down ? -1 : 1));
    heads.forEach((head, i) => {
      if (i === at) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(...sorted.slice(0, all ? undefined : ROWS_SHOWN).map((row) => el("tr", {},
      ...columns.map((column) => el("td", { class: column.number && "number" }, shownIn(column, row))))));
    more.hidden = all || rows.length <= ROWS_SHOWN;
    more.textContent = `Show all ${rows.length}`;
  }
  draw();
  if (!rows.length) made.append(el("p", { class: "quiet" }, "No data yet."));
  return made;
}

/** @template Row @param {Column<Row>} column @param {Row} row */
function shownIn(column, row) {
  return column.show ? column.show(row) : String(column.value(row) ?? "–");
}

/** Unknown comes last. @param {number | string | null} a @param {number | string | null} b */
function compare(a, b) {
  if (a === null || b === null) return a === b ? 0 : a === null ? -1 : 1;
  return typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : a - b;
}
