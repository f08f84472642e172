// Work in a machine whose log and disks are kept when it fails.

import type { Machine } from "./machine.ts";

/** Runs `work`; its error is passed on. */
export async function keepEvidence<T>(machine: Machine, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    machine.keep();
    throw error;
  }
}
