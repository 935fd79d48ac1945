// @ts-check
// The map of the fleet: every GPU a cell, drawn on one canvas; also by keyboard.
import { color, count, el, key, num, percent, to, visible, watts } from "./dom.js";

const NODE_GAP = 2, CELL_MOST = 22, CELL_LEAST = 4;
// Cividis, which is made for color-blind eyes: from nothing (dark blue) to all (yellow).
const SCALE = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];
const MODES = /** @type {[string, string][]} */ ([["state", "state"], ["active", "active time"], ["yield", "tokens/s per watt of its workload"]]);
let mode = "state";

/**
 * @param {any} fleet of /v1/fleet
 * @param {Map<string, number>} yields workload -> tokens/s per watt now
 */
export function fleetMap(fleet, yields) {
  const { gpus, nodes, states } = fleet;
  const total = gpus.node.length;
  const best = Math.max(0, ...yields.values());
  const canvas = el("canvas", { "aria-hidden": "true" });
  const status = el("p", { class: "quiet", role: "status", "aria-live": "polite" }, "Point at a GPU, or use the arrow keys; Enter opens its node.");
  const frame = el("div", { class: "map", tabindex: "0", role: "application", "aria-label": `Map of ${count(total, "GPU")} on ${count(nodes.length, "node")}; arrow keys move, Enter opens the node` }, canvas);
  const legend = el("div");
  const select = el("select", { "aria-label": "Color by" }, ...MODES.map(([id, name]) => el("option", { value: id, selected: id === mode }, name)));
  /** @type {{x: number, y: number}[]} */
  let cells = [];
  let size = 0, width = 0, at = -1;

  /** @param {number} i */
  function share(i) {
    if (mode === "active") return gpus.state[i] === states.indexOf("silent") ? null : gpus.active_permille[i] / 1000;
    const reached = gpus.workload[i] < 0 ? undefined : yields.get(fleet.workloads[gpus.workload[i]]);
    return reached === undefined || !best ? null : reached / best;
  }

  function layOut() {
    width = frame.clientWidth || 800;
    const most = nodeSizes(gpus.node, nodes.length), columns = most > 4 ? 4 : most, rows = Math.ceil(most / columns);
    const room = width * Math.max(160, Math.min(420, window.innerHeight * 0.45));
    size = Math.max(CELL_LEAST, Math.min(CELL_MOST, Math.floor(Math.sqrt(room / Math.max(1, nodes.length * columns * rows * 1.35)))));
    const blockWide = columns * size + NODE_GAP + 1, blockHigh = rows * size + NODE_GAP + 1;
    const perRow = Math.max(1, Math.floor(width / blockWide));
    const seen = new Array(nodes.length).fill(0);
    cells = new Array(total);
    for (let i = 0; i < total; i++) {
      const node = gpus.node[i], within = seen[node]++;
      cells[i] = { x: (node % perRow) * blockWide + (within % columns) * size, y: Math.floor(node / perRow) * blockHigh + Math.floor(within / columns) * size };
    }
    const scale = window.devicePixelRatio || 1, high = Math.ceil(nodes.length / perRow) * blockHigh + 4;
    canvas.width = width * scale;
    canvas.height = high * scale;
    canvas.style.height = `${high}px`;
    canvas.getContext("2d")?.scale(scale, scale);
  }

  function draw() {
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.clearRect(0, 0, width, canvas.height);
    const byState = states.map(color), unknown = color("line");
    const gap = size > 6 ? 1 : 0.5;
    for (let i = 0; i < total; i++) {
      const part = mode === "state" ? null : share(i);
      pen.fillStyle = mode === "state" ? byState[gpus.state[i]] : part === null ? unknown : SCALE[Math.min(SCALE.length - 1, Math.floor(part * SCALE.length))];
      pen.fillRect(cells[i].x, cells[i].y, size - gap, size - gap);
    }
    if (at >= 0) {
      pen.strokeStyle = color("text");
      pen.lineWidth = 2;
      pen.strokeRect(cells[at].x - 1, cells[at].y - 1, size + 1, size + 1);
    }
  }

  function explain() {
    if (mode === "state") legend.replaceChildren(key(states.filter((/** @type {string} */ _, /** @type {number} */ i) => gpus.state.includes(i))));
    else {
      const swatches = SCALE.map((shade) => { const box = el("i"); box.style.background = shade; return box; });
      legend.replaceChildren(el("p", { class: "key quiet" }, el("span", {}, "0", ...swatches, mode === "active" ? "all of the time" : `${num(best)} tokens/s per watt`)));
    }
  }

  /** @param {number} i */
  function describe(i) {
    at = i;
    draw();
    if (i < 0) return;
    const [cluster, node] = nodes[gpus.node[i]];
    const workload = gpus.workload[i] < 0 ? "nobody" : fleet.workloads[gpus.workload[i]];
    status.textContent = visible(`${cluster} ${node}, ${gpus.uuid[i]}, ${fleet.models[gpus.model[i]]}: ${states[gpus.state[i]]}, active ${percent(gpus.active_permille[i] / 1000)}, ${watts(gpus.watts[i])}, held by ${workload}`);
  }

  /** @param {MouseEvent} event */
  function under(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    return cells.findIndex((cell) => x >= cell.x && x < cell.x + size && y >= cell.y && y < cell.y + size);
  }
  const open = () => { if (at >= 0) location.hash = to("node", ...nodes[gpus.node[at]]); };
  canvas.addEventListener("mousemove", (event) => { const i = under(event); if (i >= 0 && i !== at) describe(i); });
  canvas.addEventListener("click", (event) => { const i = under(event); if (i >= 0) { describe(i); open(); } });
  frame.addEventListener("keydown", (event) => {
    const here = cells[Math.max(0, at)];
    const near = (/** @type {number} */ way) => cells.findIndex((cell) => cell.x === here.x && (way > 0 ? cell.y > here.y : cell.y < here.y && !cells.some((other) => other.x === here.x && other.y > cell.y && other.y < here.y)));
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: near(1), ArrowUp: near(-1), Home: 0, End: total - 1 }[event.key];
    if (event.key === "Enter") open();
    else if (next !== undefined) {
      event.preventDefault();
      if (next >= 0 && next < total) describe(next);
    }
  });
  select.addEventListener("change", () => { mode = select.value; explain(); draw(); });

  const again = () => { if (frame.isConnected) { layOut(); draw(); } };
  new ResizeObserver(again).observe(frame);
  explain();
  return { host: el("section", { class: "panel", "aria-label": "Map of the fleet" },
    el("div", { class: "controls" }, el("span", {}, `${count(total, "GPU")}, ${count(nodes.length, "node")}`), el("label", {}, "color by ", select)), legend, frame, status), redraw: again };
}

/** The most GPUs that a node has. @param {number[]} node @param {number} count */
function nodeSizes(node, count) {
  const sizes = new Array(count).fill(0);
  for (const i of node) sizes[i]++;
  return Math.max(1, ...sizes);
}
