// What an image says about its own installation: `bootc/install/*.toml` (bootc.md 3.2).
//
// Only the key for signatures is used so far; the others are checked to be TOML and left alone. A file
// in a later place hides one of the same name in an earlier; then they count in the order of their names.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "@iarna/toml";
import * as z from "zod";
import { FormatError, isErrno } from "../../shared/error.ts";

export interface InstallConfig {
  /** Images are only followed when a policy that asks for signatures accepts them. */
  readonly enforceContainerSigpolicy: boolean;
}

/** From the lowest to the highest. */
const BASES = ["usr/lib", "usr/local/lib", "etc", "run"];
const DIRECTORY = "bootc/install";

const fileSchema = z.looseObject({
  install: z
    .looseObject({
      "enforce-container-sigpolicy": z.boolean().optional(),
      "match-architectures": z.array(z.string()).optional(),
    })
    .optional(),
});
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: "x86_64",
  arm64: "aarch64",
  ppc64: "powerpc64",
};

/** `root` is where /usr and /etc are. FormatError naming the file. */
export function readInstallConfig(root: string): InstallConfig {
  const files = new Map<string, string>();
  for (const base of BASES) {
    const directory = join(root, base, DIRECTORY);
    for (const name of listIfThere(directory)) {
      if (name.endsWith(".toml")) files.set(name, join(directory, name));
    }
  }
  let enforce = false;
  for (const name of [...files.keys()].sort()) {
    const { install } = readConfigFile(files.get(name) ?? "");
    const architectures = install?.["match-architectures"];
    const own = ARCHITECTURES[process.arch] ?? process.arch;
    if (architectures !== undefined && !architectures.includes(own)) continue;
    enforce = install?.["enforce-container-sigpolicy"] ?? enforce;
  }
  return { enforceContainerSigpolicy: enforce };
}

function readConfigFile(path: string): z.infer<typeof fileSchema> {
  const fail = (what: string, cause?: unknown): never => {
    throw new FormatError("bad-value", `Install config "${path}" ${what}`, { path }, { cause });
  };
  let value: unknown;
  try {
    value = parse(readFileSync(path, "utf8"));
  } catch (cause) {
    return fail("cannot be read", cause);
  }
  const result = fileSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  return fail(`is wrong at "${issue?.path.join(".")}": ${issue?.message}`);
}

function listIfThere(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}
