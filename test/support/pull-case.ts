// For tests that pull from an OCI directory: for each test an empty repository (without fs-verity) and the
// path of a layout that is still to be written, removed afterwards. As with damaged-repository.ts the
// importing file sees the values of the test that runs.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { type PulledImage, pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";

export let scratch: string;
export let layout: string;
export let repo: Repository;

/** To be called once, at the top of the test file. */
export function usePullCase(): void {
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), "pull-"));
    layout = join(scratch, "layout");
    repo = ensureRepository(null, join(scratch, "repo"), { algorithm: "sha512", secure: false });
  });
  afterEach(() => {
    repo[Symbol.dispose]();
    rmSync(scratch, { recursive: true, force: true });
  });
}

export const pull = (options?: Parameters<typeof pullImage>[2]): Promise<PulledImage> =>
  pullImage(repo, openSource(makeImageReference("oci", layout)), options);
