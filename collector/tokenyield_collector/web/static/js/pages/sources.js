// @ts-check
// How what is pulled from vendors, and what is put into the watched folder, stands.
import { get } from "../api.js";
import { clock, el, exact } from "../dom.js";
import { table } from "../tables.js";

const EVERY_MS = 15_000;

/** @param {import("../main.js").Page} page */
export async function sources(page) {
  const draw = async () => {
    const found = await get("spend/sources");
    page.show(el("h1", {}, "Spend sources"),
      table("Accounts at vendors (spend_file)", found.accounts, [
        { name: "account", value: (/** @type {any} */ row) => row.name },
        { name: "source", value: (/** @type {any} */ row) => row.source },
        { name: "last pulled", value: (/** @type {any} */ row) => row.pulled_at, show: (/** @type {any} */ row) => (row.pulled_at ? clock(row.pulled_at) : "–") },
        number("missing_days", "missing days"), number("rows", "rows"), problems,
      ], 0),
      table("Watched folder (spend_folder)", found.folders, [
        { name: "folder", value: (/** @type {any} */ row) => row.folder || "(the folder itself)" },
        number("imported", "imported"), number("waiting", "waiting"), number("failed", "failed"), number("links", "links, not followed"),
        number("rows", "rows"), number("refused", "refused rows"), problems,
      ], 0));
  };
  await draw();
  page.every(EVERY_MS, draw);
}

/** @param {string} name @param {string} label */
function number(name, label) {
  return { name: label, number: true, value: (/** @type {any} */ row) => row[name], show: (/** @type {any} */ row) => (row[name] === null ? "–" : exact(row[name])) };
}

const problems = {
  name: "does not work", value: (/** @type {any} */ row) => row.problems.length,
  show: (/** @type {any} */ row) => (row.problems.length ? el("ul", {}, ...row.problems.map((/** @type {string} */ text) => el("li", {}, text))) : "–"),
};
