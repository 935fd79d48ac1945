// @ts-check
// Asking the collector, with the token where it wants one.

export class Gone extends Error {}

let token = sessionStorage.getItem("token");

/** @param {string} path @param {Record<string, string | number>} [query] */
export function address(path, query = {}) {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString();
  return `v1/${path}${text ? `?${text}` : ""}`;
}

/**
 * @param {string} where
 * @returns {Promise<Response>} one that is ok; else throws, with what the collector said
 */
export async function ask(where) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(where, { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
    } catch {
      throw new Gone("The collector cannot be reached.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      await askForToken();
      continue;
    }
    const said = await answer.json().catch(() => ({}));
    const problem = new Error(said.detail || said.title || `The collector answered ${answer.status}.`);
    throw answer.status >= 502 ? new Gone(problem.message) : problem;
  }
}

/** @param {string} path @param {Record<string, string | number>} [query] @returns {Promise<any>} */
export async function get(path, query) {
  const found = await (await ask(address(path, query))).json();
  await new Promise((go) => setTimeout(go)); // reading a large answer and drawing it are two tasks, so that keys work between
  return found;
}

/** Keep what the collector sends as a file. @param {string} where @param {string} name */
export async function download(where, name) {
  const url = URL.createObjectURL(await (await ask(where)).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** @type {Promise<void> | null} */
let asking = null;

/** One dialog, however many requests wait for it. @returns {Promise<void>} */
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("token"));
    const field = /** @type {HTMLInputElement} */ (document.getElementById("token-value"));
    dialog.addEventListener("close", () => {
      token = field.value.trim();
      sessionStorage.setItem("token", token);
      field.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
