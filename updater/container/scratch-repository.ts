// A repository for the time of one command: where an image is unpacked that is only looked at. It lies in a
// directory of its own, which has room for the command's other files, and is gone in the end.

import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { removeTree } from "../../shared/sys/directory.ts";

/** Larger than what fits into memory, so not below /tmp. */
const PARENT = "/var/tmp";

export interface ScratchRepository extends Disposable {
  readonly repo: Repository;
  /** For files. */
  readonly directory: string;
}

/** As new machines have it: sha512, V1; without fs-verity, as nothing boots from it. */
export function openScratchRepository(): ScratchRepository {
  using resources = new DisposableStack();
  const directory = mkdtempSync(join(process.env["TMPDIR"] ?? PARENT, "bootc-container-"));
  resources.defer(() => removeTree(null, directory));
  const config = { algorithm: "sha512", secure: false } as const;
  const repo = resources.use(ensureRepository(null, join(directory, "repo"), config));
  const owned = resources.move();
  return { repo, directory, [Symbol.dispose]: () => owned.dispose() };
}
