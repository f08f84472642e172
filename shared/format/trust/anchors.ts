// What a machine trusts when images start: the files of /usr/lib/bootc/trust as one value (decision 0021).
//
// - Any key there makes it a machine of signed images, also when all of them are revoked: taking keys
//   away must never make it accept more.
// - These files are trusted, so whatever is not understood in them is an error and nothing is skipped. Beside the
//   keys other files may lie, such as a README; a key under a name that is none of a key is a mistake.

import { FormatError } from "../../error.ts";
import { parseIni } from "../keyfile/ini.ts";
import { holdsKey, parseTrustKeys, type TrustKey } from "./key.ts";

export interface TrustAnchors {
  /** Without the revoked ones, each once. */
  readonly keys: readonly TrustKey[];
  /** There is a key, revoked or not: only signed images start. */
  readonly signed: boolean;
  /** Ids of deployments, in hex. */
  readonly revokedDigests: ReadonlySet<string>;
  /** Fingerprints. */
  readonly revokedKeys: ReadonlySet<string>;
  readonly counter: "auto" | "tpm" | "esp" | "none";
  readonly expired: "refuse" | "warn";
  readonly allowMissingVerity: boolean;
}

interface Revocations {
  readonly digests: Set<string>;
  readonly keys: Set<string>;
}

const DIGEST = /^(?:[0-9a-f]{64}|[0-9a-f]{128})$/;
const FINGERPRINT = /^[0-9a-f]{64}$/;
const MAX_REVOKED_TEXT = 1024 * 1024;

const MAX_FILES = 256;

/** `keys`, `revoked`: all files, name -> text. `conf`: trust.conf, null when there is none. FormatError. */
export function parseTrustAnchors(files: {
  readonly keys: ReadonlyMap<string, string>;
  readonly revoked: ReadonlyMap<string, string>;
  readonly conf: string | null;
}): TrustAnchors {
  for (const [folder, { size }] of [
    ["keys.d", files.keys],
    ["revoked.d", files.revoked],
  ] as const) {
    if (size > MAX_FILES) throw bad(folder, `it has more than ${MAX_FILES} files`);
  }
  const revocations: Revocations = { digests: new Set(), keys: new Set() };
  for (const [name, text] of files.revoked) readRevocations(text, name, revocations);
  const keys = new Map<string, TrustKey>();
  for (const [name, text] of files.keys) {
    if (!name.endsWith(".pub")) {
      if (!holdsKey(text)) continue;
      throw bad(`keys.d/${name}`, 'there is a key in it, and only names that end in ".pub" count');
    }
    for (const key of parseTrustKeys(text, name)) {
      if (!keys.has(key.fingerprint)) keys.set(key.fingerprint, key);
    }
  }
  return {
    keys: [...keys.values()].filter(({ fingerprint }) => !revocations.keys.has(fingerprint)),
    signed: keys.size > 0,
    revokedDigests: revocations.digests,
    revokedKeys: revocations.keys,
    ...parseConf(files.conf ?? ""),
  };
}

function readRevocations(text: string, name: string, { digests, keys }: Revocations): void {
  if (text.length > MAX_REVOKED_TEXT) throw bad(`revoked.d/${name}`, "it is larger than 1 MiB");
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.replace(/#.*/, "").trim();
    if (line === "") continue;
    const [kind, value = "", ...rest] = line.split(/\s+/);
    if (kind === "digest" && rest.length === 0 && DIGEST.test(value)) digests.add(value);
    else if (kind === "key" && rest.length === 0 && FINGERPRINT.test(value)) keys.add(value);
    else {
      const problem = `line ${index + 1} is neither "digest <hex>" nor "key <fingerprint>"`;
      throw bad(`revoked.d/${name}`, problem);
    }
  }
}

function parseConf(text: string): Pick<TrustAnchors, "counter" | "expired" | "allowMissingVerity"> {
  const groups = parseIni(text, "trust.conf");
  const strange = [...groups.keys()].find((group) => group !== "image");
  if (strange !== undefined) throw bad("trust.conf", `group [${strange}] is not known`);
  const image = new Map(groups.get("image"));
  const take = <T extends string>(key: string, first: T, ...others: readonly T[]): T => {
    const value = image.get(key) ?? first;
    image.delete(key);
    const known = [first, ...others].find((one) => one === value);
    if (known !== undefined) return known;
    throw bad("trust.conf", `"${key}=${value}" is not one of ${[first, ...others].join(", ")}`);
  };
  const conf = {
    counter: take("counter", "auto", "tpm", "esp", "none"),
    expired: take("expired", "refuse", "warn"),
    allowMissingVerity: take("allow-missing-verity", "false", "true") === "true",
  };
  const [unknown] = image.keys();
  if (unknown !== undefined) throw bad("trust.conf", `key "${unknown}" is not known`);
  return conf;
}

function bad(name: string, problem: string): FormatError {
  return new FormatError("bad-value", `Cannot read "${name}" of the trust directory: ${problem}`, {
    format: "trust",
  });
}
