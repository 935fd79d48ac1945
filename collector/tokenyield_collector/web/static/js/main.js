// @ts-check
// Which page is shown, by the part of the address after '#'; and what all pages share.
import { Gone } from "./api.js";
import { redraw } from "./charts.js";
import { clock, el } from "./dom.js";
import { node, team, workload } from "./pages/detail.js";
import { diagnosis } from "./pages/diagnosis.js";
import { nodes, teams, workloads } from "./pages/lists.js";
import { overview } from "./pages/overview.js";
import { report } from "./pages/report.js";

/** @type {Record<string, (page: Page, ...names: string[]) => Promise<void>>} */
const PAGES = { "": overview, diagnosis, workloads, teams, nodes, workload, team, node, report };
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

  /** Do something now; when the collector is gone, say so and try again. @param {() => Promise<void>} what */
  async run(what) {
    try {
      await what();
      if (!this.#ended) banner.hidden = true;
    } catch (error) {
      if (this.#ended) return;
      const gone = error instanceof Gone;
      banner.textContent = gone ? `${error.message} What is shown may be old; trying again.` : String(error instanceof Error ? error.message : error);
      banner.hidden = false;
      if (gone) this.#timers.push(setTimeout(() => this.run(what), RETRY_MS));
    }
  }

  /** @param {number} ms @param {() => Promise<void>} what */
  every(ms, what) {
    this.#timers.push(setTimeout(async () => {
      if (!document.hidden) await this.run(what);
      if (!this.#ended) this.every(ms, what);
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
  document.title = name ? `tokenyield: ${[name, ...rest].join(" ")}` : "tokenyield";
  if (!make) {
    page.show(el("h1", {}, "There is no such page"), el("a", { href: "#/" }, "To the fleet"));
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
