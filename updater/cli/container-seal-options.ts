// The options of `bootc container seal`, and what they may mean together: who signs the programs, and who the statement.

import { UsageError } from "../../shared/error.ts";
import type { SealMode } from "../container/seal-plan.ts";

export interface SealOptions {
  readonly mode: SealMode;
  readonly securebootKey?: string | undefined;
  readonly securebootCertificate?: string | undefined;
  readonly ephemeral?: true | undefined;
  readonly certificateOut?: string | undefined;
  readonly unsigned?: true | undefined;
  readonly unsignedUkiOut?: string | undefined;
  readonly signedUki: readonly string[];
  readonly key: readonly string[];
  readonly version?: number | undefined;
  readonly expires?: string | undefined;
  readonly addon: readonly string[];
  readonly sharedRuntime?: true | undefined;
  readonly reseal?: true | undefined;
  readonly karg: readonly string[];
  readonly allowMissingVerity?: true | undefined;
  readonly dryRun?: true | undefined;
}

/** Who signs the programs for Secure Boot. */
export type SealSigner =
  | { readonly kind: "keys"; readonly key: string; readonly certificate: string }
  /** `certificateOut`: where its certificate goes. */
  | { readonly kind: "ephemeral"; readonly certificateOut: string }
  /** Somebody else: `ukiOut` is where the kernel goes to them. */
  | { readonly kind: "unsigned"; readonly ukiOut: string | null }
  /** Somebody else has; `certificate` to check it with. */
  | {
      readonly kind: "signed";
      readonly files: readonly string[];
      readonly certificate: string | null;
    };

/** UsageError for what does not go together, before anything is fetched. */
export function chooseSealSigner(options: SealOptions): SealSigner {
  const { securebootKey: key, securebootCertificate: certificate, signedUki: files } = options;
  const ways = {
    "--secureboot-key": key !== undefined,
    "--ephemeral": options.ephemeral === true,
    "--unsigned": options.unsigned === true || options.unsignedUkiOut !== undefined,
    "--signed-uki": files.length > 0,
  };
  const chosen = Object.entries(ways).filter(([, isChosen]) => isChosen);
  if (chosen.length !== 1) {
    const found = chosen.length === 0 ? "" : `, not ${chosen.map(([name]) => name).join(" and ")}`;
    throw new UsageError(
      chosen.length === 0 ? "missing" : "conflict",
      `Who signs for Secure Boot? Give one of ${Object.keys(ways).join(", ")}${found}`,
    );
  }
  requireAlong(options);
  if (key !== undefined) return { kind: "keys", key, certificate: certificate! };
  if (options.ephemeral === true) {
    return { kind: "ephemeral", certificateOut: options.certificateOut! };
  }
  if (files.length > 0) return { kind: "signed", files, certificate: certificate ?? null };
  return { kind: "unsigned", ukiOut: options.unsignedUkiOut ?? null };
}

function requireAlong(options: SealOptions): void {
  const { securebootKey: key, securebootCertificate: certificate } = options;
  if (key !== undefined && certificate === undefined) {
    throw new UsageError("missing", '"--secureboot-key" needs "--secureboot-certificate"');
  }
  if (certificate !== undefined && key === undefined && options.signedUki.length === 0) {
    throw new UsageError("conflict", '"--secureboot-certificate" needs "--secureboot-key"');
  }
  if (options.ephemeral === true && options.certificateOut === undefined) {
    throw new UsageError(
      "missing",
      '"--ephemeral" needs "--certificate-out", since firmware has to be given that certificate',
    );
  }
  if (options.certificateOut !== undefined && options.ephemeral !== true) {
    throw new UsageError("conflict", '"--certificate-out" needs "--ephemeral"');
  }
}

/** Who signs the statement; null: nobody, the command line in the kernel says it all. */
export interface StatementOptions {
  /** Null: a key for this image only. */
  readonly keys: readonly string[] | null;
  readonly version: number;
  readonly expires: string | null;
}

/** UsageError. */
export function chooseStatement(options: SealOptions): StatementOptions | null {
  const { mode, key, version, expires } = options;
  const hasKeys = key.length > 0;
  if (hasKeys && version === undefined) {
    throw new UsageError(
      "missing",
      '"--key" needs "--version", a number that grows with every image',
    );
  }
  if (mode === "sealed" && !hasKeys) {
    if (version === undefined && expires === undefined) return null;
    throw new UsageError("conflict", '"--version" and "--expires" need "--key" or "--mode signed"');
  }
  return { keys: hasKeys ? key : null, version: version ?? 1, expires: expires ?? null };
}

/** UsageError for options that the second step of signing outside has no use for. */
export function requireOnlyCompletion(options: SealOptions): void {
  const { key, addon, karg } = options;
  const given: readonly (readonly [string, boolean])[] = [
    ["--key", key.length > 0],
    ["--addon", addon.length > 0],
    ["--karg", karg.length > 0],
    ["--shared-runtime", options.sharedRuntime === true],
    ["--reseal", options.reseal === true],
    ["--allow-missing-verity", options.allowMissingVerity === true],
    ["--version", options.version !== undefined],
    ["--expires", options.expires !== undefined],
  ];
  const wrong = given.find(([, isGiven]) => isGiven)?.[0];
  if (wrong === undefined) return;
  throw new UsageError(
    "conflict",
    `"${wrong}" belongs to the first step; with "--signed-uki" only signatures change`,
  );
}
