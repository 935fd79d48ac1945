// @ts-check
// Which page is shown, by the part of the address after '#'; and what all pages share.
import { UnreachableError } from "./api.js";
import { redraw } from "./charts.js";
import { clock, el, visible } from "./dom.js";
import { changes } from "./pages/changes.js";
import { carrier, node, workload } from "./pages/detail.js";
import { diagnosis } from "./pages/diagnosis.js";
import { forecast } from "./pages/forecast.js";
import { chargeback, nodes, workloads } from "./pages/lists.js";
import { overview } from "./pages/overview.js";
import { report } from "./pages/report.js";
import { shadow } from "./pages/shadow.js";
import { sources } from "./pages/sources.js";

/** @type {Record<string, (page: Page, ...names: string[]) => Promise<void>>} */
const PAGES = {
  "": overview, diagnosis, workloads, nodes, workload, node, report, changes, forecast, shadow, sources,
  chargeback: (page, dimension, ...names) => (names.length ? carrier(page, dimension, names[0]) : chargeback(page, dimension)),
};
const RETRY_MS = 5000;
const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const banner = /** @type {HTMLElement} */ (document.getElementById("banner"));

/** One shown page. What it began ends when another one is shown. */
export class Page {
  #ended = false;
  /** @type {ReturnType<typeof setTimeout>[]} */
  #timers = [];
  /** @type {(() => void) | null} */
  #theme = null;

  /** @param {...Node} children */
  show(...children) {
    if (!this.#ended) main.replaceChildren(...children);
  }

  /** @param {string} iso */
  asOf(iso) {
    const place = document.getElementById("as-of");
    if (place && !this.#ended) place.textContent = `as of ${clock(iso)}`;
  }

  /** @param {() => void} draw called when the theme changes */
  onTheme(draw) {
    this.#theme = draw;
  }

  redraw() {
    this.#theme?.();
  }

  /** Do something now; while the collector cannot be reached, show that and try again. @param {() => Promise<void>} work */
  async run(work) {
    try {
      await work();
      if (!this.#ended) banner.hidden = true;
    } catch (error) {
      if (this.#ended) return;
      const unreachable = error instanceof UnreachableError;
      banner.textContent = visible(unreachable ? `${error.message} The figures shown may be old. Trying again.` : String(error instanceof Error ? error.message : error));
      banner.hidden = false;
      if (unreachable) this.#timers.push(setTimeout(() => this.run(work), RETRY_MS));
    }
  }

  /** @param {number} ms @param {() => Promise<void>} work */
  every(ms, work) {
    this.#timers.push(setTimeout(async () => {
      if (!document.hidden) await this.run(work);
      if (!this.#ended) this.every(ms, work);
    }, ms));
  }

  end() {
    this.#ended = true;
    this.#timers.forEach(clearTimeout);
  }
}

let page = new Page();

function open() {
  page.end();
  page = new Page();
  banner.hidden = true;
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const shown = page, make = PAGES[name];
  document.title = name ? visible(`tokenyield: ${[name, ...rest].join(" ")}`) : "tokenyield";
  if (!make) {
    page.show(el("h1", {}, "Page not found"), el("a", { href: "#/" }, "To the fleet"));
    return;
  }
  shown.run(() => make(shown, ...rest));
}

document.getElementById("theme")?.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("theme", next); } catch { /* storage is off: for this page only */ }
  redraw();
  page.redraw();
});
addEventListener("hashchange", () => { open(); main.focus(); });
open();
