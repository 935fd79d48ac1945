// @ts-check
// Stacked bars over time with uPlot, and the waterfall. Every chart has its numbers in a table below it.
import { color, el, key, num, title as titleOf } from "./dom.js";
import { inline } from "./figures.js";

/** @type {Set<{host: HTMLElement, draw: () => void, plot: any}>} */
const shown = new Set();
const HEIGHT = 220;

/** Draw everything again, in the colors of the theme. */
export function redraw() {
  for (const chart of [...shown]) {
    if (chart.host.isConnected) chart.draw();
    else forget(chart);
  }
}

const resized = new ResizeObserver((entries) => {
  for (const chart of shown) {
    const entry = entries.find((one) => one.target === chart.host);
    if (entry && chart.plot && entry.contentRect.width > 0) chart.plot.setSize({ width: entry.contentRect.width, height: HEIGHT });
  }
});

/** @param {{host: HTMLElement, draw: () => void, plot: any}} chart */
function forget(chart) {
  chart.plot?.destroy();
  resized.unobserve(chart.host);
  shown.delete(chart);
}

/**
 * @param {string} title
 * @param {string[]} times ISO days or hours
 * @param {{name: string, values: (number | null)[]}[]} parts stacked in this order from below
 * @param {string} unit
 * @param {(value: number | null) => string} [written] a value in the table of numbers
 */
export function stacked(title, times, parts, unit, written = (value) => num(value, 6)) {
  const used = parts.filter((part) => part.values.some((value) => value));
  const host = el("div");
  const seconds = times.map((time) => Date.parse(time) / 1000);
  const sums = times.map(() => 0);
  const cumulated = used.map((part) => part.values.map((value, i) => (sums[i] += value ?? 0)));
  const chart = { host, plot: /** @type {any} */ (null), draw };

  function draw() {
    chart.plot?.destroy();
    const axis = { stroke: color("quiet"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line") } };
    const step = seconds.length > 1 ? seconds[1] - seconds[0] : 86_400;
    chart.plot = new /** @type {any} */ (window).uPlot({
      width: Math.max(280, host.clientWidth || 600),
      height: HEIGHT,
      scales: { x: { time: true, range: () => [seconds[0] - step / 2, seconds[seconds.length - 1] + step / 2] }, y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ most) => [0, most * 1.05 || 1] } },
      axes: [axis, { ...axis, size: 64, values: (/** @type {any} */ _, /** @type {number[]} */ marks) => marks.map((mark) => num(mark)) }],
      cursor: { y: false },
      series: [
        { value: (/** @type {any} */ _, /** @type {number} */ at) => (at ? new Date(at * 1000).toISOString().slice(0, step < 86_400 ? 16 : 10).replace("T", " ") : "–") },
        ...used.map((part, i) => ({
          label: titleOf(part.name),
          stroke: color(part.name),
          fill: color(part.name),
          width: 0,
          points: { show: false },
          paths: /** @type {any} */ (window).uPlot.paths.bars({ size: [0.85, 80] }),
          value: (/** @type {any} */ _, /** @type {any} */ __, /** @type {any} */ ___, /** @type {number | null} */ at) => (at === null ? "–" : `${num(used[i].values[at])} ${unit}`),
        })).reverse(),
      ],
    }, [seconds, ...cumulated.reverse()], host);
    cumulated.reverse();
  }

  const numbers = el("details", {}, el("summary", { class: "quiet" }, "Numbers"));
  numbers.addEventListener("toggle", () => numbers.open && numbers.childElementCount === 1 && numbers.append(table()), { once: true });
  function table() {
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, numbers` }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "from"), ...used.map((part) => el("th", { scope: "col", class: "number" }, titleOf(part.name))))),
      el("tbody", {}, ...times.map((time, i) => el("tr", {}, el("th", { scope: "row" }, time), ...used.map((part) => el("td", { class: "number" }, written(part.values[i]))))))));
  }
  if (used.length && times.length) {
    shown.add(chart);
    requestAnimationFrame(() => { if (host.isConnected) { draw(); resized.observe(host); } });
  } else host.append(el("p", { class: "quiet" }, "No data for this period."));
  return el("section", { class: "panel", "aria-label": title }, el("h3", {}, `${title} (${unit})`), key(used.map((part) => part.name)), host, numbers);
}

/**
 * What came, as a line, and what is to come: the median, and around it the band of 80 %.
 * @param {string} title
 * @param {string[]} days ISO days, of what came and then of what is to come
 * @param {number[]} came
 * @param {{p10: number, p50: number, p90: number}[]} coming
 * @param {string} unit
 */
export function fan(title, days, came, coming, unit) {
  const host = el("div"), seconds = days.map((day) => Date.parse(day) / 1000);
  const before = came.map(() => null), after = coming.map(() => null);
  const lines = [[...came, ...after], ...(/** @type {const} */ (["p90", "p50", "p10"])).map((name) => [...before, ...coming.map((one) => one[name])])];
  const chart = { host, plot: /** @type {any} */ (null), draw };

  function draw() {
    chart.plot?.destroy();
    const axis = { stroke: color("quiet"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line") } };
    const line = (/** @type {string} */ label, /** @type {string} */ stroke, /** @type {object} */ more = {}) => ({ label, stroke, width: 2, points: { show: false }, value: (/** @type {any} */ _, /** @type {number | null} */ value) => (value === null ? "–" : `${num(value)} ${unit}`), ...more });
    chart.plot = new /** @type {any} */ (window).uPlot({
      width: Math.max(280, host.clientWidth || 600),
      height: HEIGHT,
      scales: { x: { time: true }, y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ most) => [0, most * 1.05 || 1] } },
      axes: [axis, { ...axis, size: 64, values: (/** @type {any} */ _, /** @type {number[]} */ marks) => marks.map((mark) => num(mark)) }],
      cursor: { y: false },
      bands: [{ series: [2, 4], fill: `${color("link")}33` }],
      series: [
        { value: (/** @type {any} */ _, /** @type {number} */ at) => (at ? new Date(at * 1000).toISOString().slice(0, 10) : "–") },
        line("actual", color("text")), line("p90", color("link"), { width: 1 }), line("p50", color("link"), { dash: [6, 4] }), line("p10", color("link"), { width: 1 }),
      ],
    }, [seconds, ...lines], host);
  }

  const numbers = el("details", {}, el("summary", { class: "quiet" }, "Numbers"));
  numbers.addEventListener("toggle", () => numbers.open && numbers.childElementCount === 1 && numbers.append(table()), { once: true });
  function table() {
    const heads = ["day", "actual", "p90", "p50", "p10"].map((name, i) => el("th", { scope: "col", class: i ? "number" : null }, name));
    const rows = days.map((day, i) => el("tr", {}, el("th", { scope: "row" }, day), ...lines.map((values) => el("td", { class: "number" }, num(values[i], 6)))));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, numbers` },
      el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)));
  }
  shown.add(chart);
  requestAnimationFrame(() => { if (host.isConnected) { draw(); resized.observe(host); } });
  return el("section", { class: "panel", "aria-label": title }, el("h3", {}, `${title} (${unit})`), host, numbers);
}

/**
 * Bars that begin where the one before ends.
 * @param {{name: string, amount: number, hours: string, figure: import("./figures.js").Figure}[]} steps
 */
export function waterfall(steps) {
  const whole = steps.reduce((sum, step) => sum + step.amount, 0);
  let before = 0;
  return el("ul", { class: "waterfall" }, ...steps.map((step) => {
    const gap = el("span"), fill = el("span", { class: `c-${step.name}` });
    gap.style.width = `${whole > 0 ? Math.max(0, before / whole) * 100 : 0}%`;
    fill.style.width = `${whole > 0 ? Math.max(0, step.amount / whole) * 100 : 0}%`;
    before += step.amount;
    return el("li", {}, el("span", {}, titleOf(step.name)), el("span", { class: "bar", "aria-hidden": "true" }, gap, fill),
      el("span", { class: "amount" }, inline(step.figure)), el("span", { class: "amount quiet" }, step.hours));
  }));
}
