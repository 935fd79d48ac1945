// @ts-check
// Making elements, and numbers and times for people.

/** @typedef {Node | string | null | undefined} Child */

/**
 * An element with properties and children. Text is always text: nothing is ever parsed as HTML.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, any>} [properties] `class`, `on…` and attributes
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}

/** @param {number | null | undefined} value @param {number} [digits] significant digits of small ones */
export function num(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e12) return `${(value / 1e12).toLocaleString("en", { maximumSignificantDigits: 4 })} T`;
  if (size >= 1e9) return `${(value / 1e9).toLocaleString("en", { maximumSignificantDigits: 4 })} G`;
  if (size >= 1e6) return `${(value / 1e6).toLocaleString("en", { maximumSignificantDigits: 4 })} M`;
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

/** The whole number. @param {number | null | undefined} value */
export function exact(value) {
  return value === null || value === undefined ? "unknown" : value.toLocaleString("en", { maximumFractionDigits: 9 });
}

/** @param {number | null | undefined} value @param {string} currency */
export function money(value, currency) {
  if (value === null || value === undefined) return "–";
  const digits = value !== 0 && Math.abs(value) < 0.1 ? 4 : 2;
  return `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${currency}`;
}

/** @param {number | null | undefined} share */
export function percent(share) {
  return share === null || share === undefined || !Number.isFinite(share) ? "–" : `${(share * 100).toFixed(1)} %`;
}

/** a / b, null where there is no b. @param {number | null} a @param {number | null} b */
export function ratio(a, b) {
  return a === null || !b ? null : a / b;
}

/** @param {string} iso */
export function clock(iso) {
  return new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** The colour of a state or bucket in the present theme. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#777";
}

/** A link to a page. @param {string} page @param {...string} names */
export function to(page, ...names) {
  return `#/${page}${names.map((name) => `/${encodeURIComponent(name)}`).join("")}`;
}

/** @param {string[]} names @returns {HTMLUListElement} */
export function key(names) {
  return el("ul", { class: "key quiet" }, ...names.map((name) => el("li", {}, el("i", { class: `c-${name}` }), name.replace("_", "-"))));
}
