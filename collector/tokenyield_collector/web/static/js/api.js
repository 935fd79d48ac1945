// @ts-check
// Requests to the collector, with the token where one is needed.

export class UnreachableError extends Error {}

let token = sessionStorage.getItem("token");

/** @param {string} path @param {Record<string, string | number>} [query] */
export function address(path, query = {}) {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString();
  return `v1/${path}${text ? `?${text}` : ""}`;
}

/**
 * @param {string} where
 * @returns {Promise<Response>} a successful one; otherwise throws, with the problem that the collector reported
 */
export async function request(where) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(where, { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: "no-store" });
    } catch {
      throw new UnreachableError("The collector cannot be reached.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      await askForToken();
      continue;
    }
    const problem = await answer.json().catch(() => ({}));
    const text = problem.detail || problem.title || `The collector answered ${answer.status}.`;
    throw answer.status >= 502 ? new UnreachableError(text) : new Error(text);
  }
}

/** @param {string} path @param {Record<string, string | number>} [query] @returns {Promise<any>} */
export async function get(path, query) {
  const document = await (await request(address(path, query))).json();
  await new Promise((go) => setTimeout(go)); // reading a large answer and drawing it are two tasks, so that keys work between
  return document;
}

/** Keep what the collector sends as a file. @param {string} where @param {string} name */
export async function download(where, name) {
  const url = URL.createObjectURL(await (await request(where)).blob());
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
