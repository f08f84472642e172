// Fuzz target: meta.json of a repository and the staged deployment's file.

import { formatMetadata, parseMetadata } from "../../../shared/store/metadata.ts";
import { formatStagedFile, parseStagedFile } from "../../../updater/deploy/staged-file.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^shared\/store\/metadata\.ts|^updater\/deploy\/staged-file\.ts/,
  maxBytes: 2048,
  errors: ["FormatError", "StateError"],
  words: [
    ...'{|}|[|]|:|,|null|true|1e999|-0|""|"version":|"algorithm":|"features":|"erofs_formats":'.split(
      "|",
    ),
    ...'"default":|"extra":|"__proto__":|"fsverity-sha256-12"|"v1_erofs"|"incompatible":|\\u0000'.split(
      "|",
    ),
    ...'"depl_id":|"finalization_locked":'.split("|"),
  ],
  seeds: () => [
    Buffer.from(formatMetadata("sha512")),
    Buffer.from('{"version":1,"algorithm":"fsverity-sha256-12"}'),
    Buffer.from(formatStagedFile({ id: "ab".repeat(64), locked: true })),
  ],
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    const staged = attempt(() => parseStagedFile(text, "staged"));
    if (!("error" in staged)) {
      const written = formatStagedFile(staged.value);
      checkEqual(formatStagedFile(parseStagedFile(written, "again")), written, "Staged file");
    }
    const { algorithm, erofsVersion } = parseMetadata(text);
    checkEqual(algorithm === "sha256" || algorithm === "sha512", true, "Algorithm");
    checkEqual([0, 1, 2].includes(erofsVersion), true, "EROFS version");
    return true;
  },
};
