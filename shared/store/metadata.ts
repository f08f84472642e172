// meta.json of a composefs repository, exactly as composefs-rs 0.9 and bootc 1.16 write and read it.
//
// fs-verity on meta.json itself is the mark of a secure repository (every object must have verity).
// Unknown compatible features are ignored, unknown read-only-compatible ones forbid writing, unknown
// incompatible ones and newer versions are refused.

import { FormatError, StateError } from "../error.ts";
import type { VerityAlgorithm } from "../format/verity/digest.ts";

const VERSION = 1;
const V1_EROFS = "v1_erofs";

export type ErofsVersion = 0 | 1 | 2;

export interface Metadata {
  readonly algorithm: VerityAlgorithm;
  /** Format of new images. */
  readonly erofsVersion: ErofsVersion;
  /** Other formats in which every image is made besides. */
  readonly extraErofsVersions: readonly ErofsVersion[];
  /** Features of a newer program that allow reading only. */
  readonly readOnlyFeatures: readonly string[];
}

/** The text of meta.json for a new repository; EROFS format V1 is bootc's default. */
export function formatMetadata(algorithm: VerityAlgorithm, erofsVersion: ErofsVersion = 1): string {
  const readOnlyCompatible = erofsVersion === 1 ? [V1_EROFS] : [];
  const value = {
    version: VERSION,
    algorithm: `fsverity-${algorithm}-12`,
    features: {
      compatible: [],
      "read-only-compatible": readOnlyCompatible,
      incompatible: [],
    },
    erofs_formats: { default: erofsVersion },
  };
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** FormatError for anything malformed, StateError("newer-format") for what only newer programs know. */
export function parseMetadata(text: string): Metadata {
  const value = parseObject(text);
  const version = value["version"];
  if (!Number.isInteger(version)) throw invalid("version", version);
  if ((version as number) > VERSION) throw newer(`version ${version}`);
  const features = parseFeatures(value["features"] ?? {});
  const unknown = features.incompatible[0];
  if (unknown !== undefined) throw newer(`feature "${unknown}"`);
  return {
    algorithm: parseAlgorithm(value["algorithm"]),
    ...parseErofsVersions(value["erofs_formats"], features.readOnlyCompatible.includes(V1_EROFS)),
    readOnlyFeatures: features.readOnlyCompatible.filter((name) => name !== V1_EROFS),
  };
}

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError("bad-value", "meta.json is not JSON", { format: "meta.json" }, { cause });
  }
  if (!isObject(value)) throw invalid("(document)", value);
  return value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseAlgorithm(value: unknown): VerityAlgorithm {
  if (value === "fsverity-sha256-12") return "sha256";
  if (value === "fsverity-sha512-12") return "sha512";
  throw invalid("algorithm", value);
}

function parseFeatures(value: unknown): {
  readonly readOnlyCompatible: readonly string[];
  readonly incompatible: readonly string[];
} {
  if (!isObject(value)) throw invalid("features", value);
  const names = (key: string): readonly string[] => {
    const list = value[key] ?? [];
    const isList = Array.isArray(list) && list.every((name) => typeof name === "string");
    if (!isList) throw invalid(`features.${key}`, list);
    return list;
  };
  names("compatible");
  return { readOnlyCompatible: names("read-only-compatible"), incompatible: names("incompatible") };
}

/** A missing field means {"default": 2}, and that means V1 when the feature flag says so. */
function parseErofsVersions(
  value: unknown,
  hasV1Flag: boolean,
): Pick<Metadata, "erofsVersion" | "extraErofsVersions"> {
  const formats = value ?? { default: 2 };
  if (!isObject(formats)) throw invalid("erofs_formats", formats);
  const version = formats["default"];
  if (!isErofsVersion(version)) throw invalid("erofs_formats.default", version);
  const extra = formats["extra"] ?? [];
  if (!Array.isArray(extra) || !extra.every(isErofsVersion)) {
    throw invalid("erofs_formats.extra", extra);
  }
  const others = [...new Set(extra)].filter((other) => other !== version).sort();
  const isOldDefault = version === 2 && others.length === 0;
  return { erofsVersion: isOldDefault && hasV1Flag ? 1 : version, extraErofsVersions: others };
}

function isErofsVersion(value: unknown): value is ErofsVersion {
  return value === 0 || value === 1 || value === 2;
}

function invalid(field: string, value: unknown): FormatError {
  const shown = JSON.stringify(value) ?? "missing";
  return new FormatError("bad-value", `meta.json: "${field}" is ${shown.slice(0, 80)}`, {
    format: "meta.json",
    field,
  });
}

function newer(what: string): StateError {
  return new StateError(
    "newer-format",
    `The repository was made by a newer program (${what}); update bootc to use it`,
  );
}
