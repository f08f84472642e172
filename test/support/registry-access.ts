// What tests give the registry client instead of this machine's configuration.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ConfigPlace } from "../../updater/registry/config-place.ts";
import { REGISTRY_LIMITS, type RegistryLimits } from "../../updater/registry/limits.ts";
import { openSystemAccess, type RegistryAccess } from "../../updater/registry/system-access.ts";

/** Waits that a test can afford. */
const QUICK_LIMITS: RegistryLimits = {
  ...REGISTRY_LIMITS,
  attempts: 3,
  backoffMs: 5,
  maxWaitMs: 5000,
};

export interface TestConfig {
  /** Path from the root -> text. */
  readonly files?: Readonly<Record<string, string>>;
  readonly environment?: Readonly<Record<string, string>>;
  readonly limits?: Partial<RegistryLimits>;
}

/** A machine whose root is `root` with these files. */
export function makeAccess(root: string, config: TestConfig = {}): RegistryAccess {
  for (const [path, text] of Object.entries(config.files ?? {})) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const place: ConfigPlace = { root, environment: config.environment ?? {}, userId: 0 };
  return { ...openSystemAccess(place), limits: { ...QUICK_LIMITS, ...config.limits } };
}

/** registries.conf for servers without TLS, or with one that is not verified. */
export function insecureConf(...hosts: readonly string[]): string {
  return hosts.map((host) => `[[registry]]\nlocation = "${host}"\ninsecure = true\n`).join("\n");
}

export function authFile(host: string, username: string, password: string): string {
  const auth = Buffer.from(`${username}:${password}`).toString("base64");
  return JSON.stringify({ auths: { [host]: { auth } } });
}
