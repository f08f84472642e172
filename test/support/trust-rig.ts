// A machine in a directory with signed images, and what tests do with it: write images, install, update, look.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PolicyError } from "../../shared/error.ts";
import { parseSignedStatement } from "../../shared/format/trust/statement.ts";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { type UpdateRequest, updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { installScratch } from "./scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "./scratch-machine.ts";
import { type TrustedImage, TrustedImages } from "./trusted-machine.ts";

const quiet = { onProgress: () => {}, onStep: () => {} };
export const SIGNED: TrustedImage = { version: "1", keys: ["vendor"], signers: ["vendor"] };

export type ImageChanges = Partial<TrustedImage> & { readonly version: string };

export class TrustRig implements Disposable {
  readonly machine = new ScratchMachine();
  readonly images = new TrustedImages(this.machine);
  readonly path = join(this.machine.directory, "os.oci");

  /** `number`: the version in its statement. Returns the deployment's id. */
  put(image: ImageChanges, number?: number): Promise<string> {
    const statement =
      number === undefined ? image.statement : { ...image.statement, version: number };
    return this.images.write(this.path, { ...image, ...(statement && { statement }) });
  }

  async install(image: TrustedImage = SIGNED, number = 5): Promise<string> {
    const id = await this.put(image, number);
    await installScratch(this.machine, this.path);
    return id;
  }

  update(running: RunningMachine, changes: Partial<UpdateRequest> = {}) {
    const reference = makeImageReference("oci", this.path);
    const request: UpdateRequest = {
      ...{ kind: "upgrade", reference, source: openSource(reference) },
      ...{ checkOnly: false, downloadOnly: false, dryRun: false },
      ...changes,
    };
    return updateImage(running, running.booted, request, quiet);
  }

  /** Updates, restarts, and lets the new deployment prove itself. */
  async advance(running: RunningMachine, changes: Partial<UpdateRequest> = {}) {
    const { kind } = await this.update(running, changes);
    if (kind !== "staged") throw new Error(`the update is ${kind}`);
    finalizeStaged(running, running.world());
    running[Symbol.dispose]();
    return this.images.boot();
  }

  states(): string[] {
    return readdirSync(join(this.machine.disk, "state/deploy")).sort();
  }

  statementOf(id: string): string {
    return readFileSync(statePaths(this.machine.disk, id).statement, "utf8");
  }

  /** Version on the ESP. */
  espFloor(): number | null {
    const file = join(this.machine.esp, ESP_FLOOR_FILE);
    return existsSync(file) ? versionOf(readFileSync(file, "utf8")) : null;
  }

  [Symbol.dispose](): void {
    this.machine[Symbol.dispose]();
  }
}

export function versionOf(statement: string): number {
  return parseSignedStatement(Buffer.from(statement), "x").statement.version;
}

export function hostOf(running: RunningMachine) {
  return makeHostState(running.system, running.repo, running.world());
}

/** The code and text of a refusal. */
export async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof PolicyError) return `${error.code}: ${error.message}`;
  throw error ?? new Error("it was not refused");
}
