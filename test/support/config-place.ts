// A root directory with configuration files of registries, for tests: what updater/registry reads instead of /etc.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import type { ConfigPlace } from "../../updater/registry/config-place.ts";

/**
 * `files`: absolute paths below the new root -> contents. In `environment` a value that begins with "ROOT/" is made a
 * path below it. Removed when the test is over.
 */
export function makeConfigPlace(
  files: Readonly<Record<string, string | Uint8Array>>,
  environment: Readonly<Record<string, string>> = {},
  userId = 0,
): ConfigPlace {
  const root = mkdtempSync(join(tmpdir(), "bootc-config-place-"));
  onTestFinished(() => rmSync(root, { recursive: true }));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  const entries = Object.entries(environment).map(([name, value]) => [
    name,
    value.replaceAll(/ROOT(?=\/)/g, root),
  ]);
  return { root, environment: Object.fromEntries(entries), userId };
}
