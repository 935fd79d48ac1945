// @ts-check
// Making elements, and numbers and times for people.
import { CATALOGUE } from "./buckets.js";

/** @typedef {Node | string | null | undefined} Child */

const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/u;
const READS_LIKE_ESCAPE = /\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})/;
const SHORT = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);
const SHOWN = ["title", "aria-label", "placeholder"];

/**
 * Text that others may have chosen, with what nobody would see (marks of direction, control characters) as escapes: as
 * the collector's visible.py writes it. Two texts never become one.
 * @param {string} text
 */
export function visible(text) {
  if (!UNSEEN.test(text) && !READS_LIKE_ESCAPE.test(text)) return text;
  return [...text].map((one) => one === "\\" ? "\\\\" : UNSEEN.test(one) ? escaped(one) : one).join("");
}

/** @param {string} one a character */
function escaped(one) {
  const short = SHORT.get(one);
  if (short) return short;
  const code = /** @type {number} */ (one.codePointAt(0)), digits = code.toString(16);
  return code < 0x100 ? `\\x${digits.padStart(2, "0")}` : code < 0x10000 ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
}

/**
 * An element with properties and children. Text is always text, and visible: nothing is ever parsed as HTML.
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
    else made.setAttribute(key, value === true ? "" : SHOWN.includes(key) ? visible(String(value)) : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(typeof child === "string" ? visible(child) : child);
  return made;
}

/** @type {Map<string, Intl.NumberFormat>} */
const formats = new Map();

/** Made once for each kind: making one takes longer than a hundred uses. @param {Intl.NumberFormatOptions} options */
function format(options) {
  const id = JSON.stringify(options);
  let made = formats.get(id);
  if (!made) formats.set(id, made = new Intl.NumberFormat("en", options));
  return made;
}

/** @param {number | null | undefined} value @param {number} [digits] significant digits of small ones */
export function num(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  for (const [factor, prefix] of /** @type {[number, string][]} */ ([[1e12, "T"], [1e9, "G"], [1e6, "M"]])) {
    if (size >= factor) return `${format({ maximumSignificantDigits: 4 }).format(value / factor)} ${prefix}`;
  }
  if (size >= 1000) return format({ maximumFractionDigits: 0 }).format(value);
  return format({ maximumSignificantDigits: digits }).format(value);
}

/** Power. @param {number} value */
export function watts(value) {
  const text = num(value);
  return /[TGM]$/.test(text) ? `${text}W` : `${text} W`;
}

/** The whole number. @param {number | null | undefined} value */
export function exact(value) {
  return value === null || value === undefined ? "unknown" : format({ maximumFractionDigits: 9 }).format(value);
}

/**
 * An amount with so many decimals. The collector has rounded it (`shown`), so that amounts add up as they are shown.
 * @param {number | null | undefined} value @param {string} currency @param {number} [digits]
 */
export function money(value, currency, digits = 2) {
  if (value === null || value === undefined) return "–";
  return `${format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value)} ${currency}`.trimEnd();
}

/**
 * What an hour, a request or a million tokens cost: at least four significant digits, so that fractions of a cent stay.
 * @param {number | null | undefined} value @param {string} currency
 */
export function unitCost(value, currency) {
  const size = Math.abs(value ?? 0);
  return money(value, currency, size ? Math.min(20, Math.max(2, 3 - Math.floor(Math.log10(size)))) : 2);
}

/** "1 node", "2 nodes". @param {number} amount @param {string} noun */
export function count(amount, noun) {
  return `${amount} ${noun}${amount === 1 ? "" : "s"}`;
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

/** The color of a state or bucket in the present theme. @param {string} name */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#777";
}

/** A link to a page. @param {string} page @param {...string} names */
export function to(page, ...names) {
  return `#/${page}${names.map((name) => `/${encodeURIComponent(name)}`).join("")}`;
}

/** @param {string[]} names @returns {HTMLUListElement} */
export function key(names) {
  return el("ul", { class: "key quiet" }, ...names.map((name) => el("li", {}, el("i", { class: `c-${name}` }), title(name))));
}

/** The name of a bucket, a kind of tokens or a dimension, for people. @param {string} name */
export function title(name) {
  return CATALOGUE[name]?.title ?? name.replaceAll("_", " ");
}
