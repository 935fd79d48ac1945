// @ts-check
// Figures that can be clicked: each shows its formula, the numbers in it, and the request that returned them.
import { el } from "./dom.js";

/**
 * @typedef {object} Figure
 * @property {string} label
 * @property {string} value for people
 * @property {string} formula in words
 * @property {[string, string][]} inputs name and exact value of each term of the formula
 * @property {string} source the request that returned them
 * @property {string} [note] below the value
 */

/** A large one. @param {Figure} figure */
export function figure(figure) {
  return el("button", { class: "figure", type: "button", "aria-haspopup": "dialog", onclick: () => open(figure) },
    el("span", { class: "label" }, figure.label),
    el("span", { class: "value" }, figure.value),
    figure.note ? el("span", { class: "note" }, figure.note) : null);
}

/** One within a table or a line. @param {Figure} figure */
export function inline(figure) {
  return el("button", { class: "plain", type: "button", "aria-haspopup": "dialog",
    "aria-label": `${figure.label}: ${figure.value}`, onclick: () => open(figure) }, figure.value);
}

/** @param {Figure} figure */
function open(figure) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("formula"));
  const rows = figure.inputs.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number" }, value)));
  dialog.replaceChildren(
    el("h2", { id: "formula-title" }, figure.label),
    el("p", { class: "figure-value" }, figure.value),
    el("p", { class: "formula" }, figure.formula),
    el("div", { class: "scroll" }, el("table", {}, el("tbody", {}, ...rows))),
    el("p", { class: "quiet" }, "From ", el("a", { href: figure.source, target: "_blank", rel: "noreferrer" }, figure.source)),
    el("form", { method: "dialog" }, el("button", { value: "close" }, "Close")),
  );
  dialog.showModal();
}
