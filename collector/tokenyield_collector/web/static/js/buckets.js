// @ts-check
// Made by `make docs` from statements/buckets.py; do not edit.

/** @type {Record<string, { title: string, meaning: string }>} */
export const CATALOGUE = {
  "dark": {
    "title": "dark",
    "meaning": "paid for, and not reporting or unknown"
  },
  "unallocated": {
    "title": "unallocated",
    "meaning": "held by nobody"
  },
  "idle": {
    "title": "idle",
    "meaning": "held by a workload, no kernel ran"
  },
  "under_yield": {
    "title": "under-yield",
    "meaning": "active, but slower than the reference pace of that model on that GPU"
  },
  "productive": {
    "title": "productive",
    "meaning": "active, at or above the reference pace"
  },
  "active": {
    "title": "active",
    "meaning": "a kernel ran; closed hours split it into under-yield and productive"
  },
  "shared": {
    "title": "shared",
    "meaning": "taken over from others by the sharing policy"
  }
};

/** The waterfall of a report. */
export const BUCKETS = ["dark", "unallocated", "idle", "under_yield", "productive"];

/** What the cost of a row consists of. */
export const COSTS = ["dark", "unallocated", "idle", "under_yield", "productive", "shared"];

/** The waterfall of the live window. */
export const LIVE_BUCKETS = ["dark", "unallocated", "idle", "active"];

/** Capacity that is paid for while nothing runs on it. */
export const IDLE_CAPACITY = ["dark", "unallocated", "idle"];

/** What made no tokens, or fewer than it could. */
export const LOST = ["dark", "unallocated", "idle", "under_yield"];
